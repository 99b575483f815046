#include "utils/generation/tiny_models.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/llama/modeling_llama.h>

#include <limits>

namespace transformers::testing {
namespace {

template <typename Model, typename Config>
std::shared_ptr<CausalLM> with_random_weights(const Config& config) {
  const ConstructionGuard guard({.initialize = false});
  Model model(config);
  const at::NoGradGuard no_grad;
  const auto generator = at::detail::createCPUGenerator(7);
  for (auto& parameter : model->parameters()) {
    parameter.normal_(0, 0.5, generator);
  }
  model->eval();
  return model.ptr();
}

}  // namespace

std::shared_ptr<CausalLM> tiny_llama(int64_t vocab_size) {
  LlamaConfig config;
  config.vocab_size = vocab_size;
  config.hidden_size = 16;
  config.intermediate_size = 24;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.max_position_embeddings = 64;
  return with_random_weights<LlamaForCausalLM>(config);
}

std::shared_ptr<CausalLM> tiny_gptj(int64_t vocab_size) {
  GPTJConfig config;
  config.vocab_size = vocab_size;
  config.n_embd = 16;
  config.n_layer = 2;
  config.n_head = 4;
  config.rotary_dim = 2;
  config.n_positions = 64;
  return with_random_weights<GPTJForCausalLM>(config);
}

std::vector<std::shared_ptr<CausalLM>> tiny_models() { return {tiny_llama(), tiny_gptj()}; }

at::Tensor ids(std::vector<int64_t> row) { return at::tensor(row, at::kLong).unsqueeze(0); }

at::Tensor id_rows(const std::vector<std::vector<int64_t>>& rows) {
  std::vector<at::Tensor> tensors;
  for (const auto& row : rows) {
    tensors.push_back(at::tensor(row, at::kLong));
  }
  return at::stack(tensors);
}

at::Tensor ForcedText::operator()(const at::Tensor&, const at::Tensor& scores) {
  auto forced = at::full_like(scores, -std::numeric_limits<double>::infinity());
  forced.select(1, tokens_.at(step_++)).zero_();
  return forced;
}

}  // namespace transformers::testing
