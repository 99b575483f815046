#pragma once

#include <transformers/gptj/configuration_gptj.h>
#include <transformers/llama/configuration_llama.h>
#include <transformers/utils/modeling/causal_lm.h>

#include <memory>
#include <string>
#include <vector>

namespace transformers::testing {

/// Two layers, 40 tokens, grouped heads; weights are drawn wide enough that every part of a layer shows in the logits.
LlamaConfig tiny_llama();
/// Two layers, 40 tokens, partly rotated heads.
GPTJConfig tiny_gptj();

struct NamedConfig {
  std::string name;
  std::shared_ptr<PretrainedConfig> config;
};
/// A grid over both families: full, grouped and single key/value heads, head_dim, biases, rope types, rotary_dim.
std::vector<NamedConfig> config_grid();

/// The causal LM of a config, its weights drawn from a fixed seed, in eval mode.
std::shared_ptr<CausalLM> tiny_model(const PretrainedConfig& config, at::ScalarType dtype = at::kFloat);

/// Random ids without the padding token 0, the same in every run.
at::Tensor tiny_ids(int64_t batch, int64_t seq);

}  // namespace transformers::testing
