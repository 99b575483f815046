#include "support/tiny_models.h"

#include <ATen/ATen.h>
#include <torch/utils.h>
#include <transformers/auto/modeling_auto.h>

namespace transformers::testing {

LlamaConfig tiny_llama() {
  LlamaConfig config;
  config.vocab_size = 40;
  config.hidden_size = 24;
  config.intermediate_size = 20;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.max_position_embeddings = 64;
  config.initializer_range = 0.2;
  config.pad_token_id = 0;
  return config;
}

GPTJConfig tiny_gptj() {
  GPTJConfig config;
  config.vocab_size = 40;
  config.n_embd = 24;
  config.n_layer = 2;
  config.n_head = 3;
  config.n_inner = 20;
  config.rotary_dim = 4;
  config.n_positions = 64;
  config.initializer_range = 0.2;
  config.bos_token_id = 1;
  config.eos_token_id = {2};
  return config;
}

std::vector<NamedConfig> config_grid() {
  const auto llama = [](const char* name, const auto& change) {
    auto config = std::make_shared<LlamaConfig>(tiny_llama());
    change(*config);
    return NamedConfig{std::string("llama_") + name, config};
  };
  const auto gptj = [](const char* name, const auto& change) {
    auto config = std::make_shared<GPTJConfig>(tiny_gptj());
    change(*config);
    return NamedConfig{std::string("gptj_") + name, config};
  };
  return {
      llama("grouped", [](auto&) {}),
      llama("full_heads", [](auto& config) { config.num_key_value_heads = 4; }),
      llama("one_key_value_head", [](auto& config) { config.num_key_value_heads = 1; }),
      llama("head_dim_and_biases",
            [](auto& config) {
              config.head_dim = 10;
              config.attention_bias = config.mlp_bias = true;
            }),
      llama("rope_llama3",
            [](auto& config) {
              auto& rope = config.rope_parameters;
              rope.rope_type = RopeType::kLlama3;
              rope.factor = 8;
              rope.low_freq_factor = 1;
              rope.high_freq_factor = 4;
              rope.original_max_position_embeddings = 16;
            }),
      llama("tied", [](auto& config) { config.tie_word_embeddings = true; }),
      gptj("partly_rotated", [](auto&) {}),
      gptj("wholly_rotated", [](auto& config) { config.rotary_dim = 8; }),
      gptj("tied", [](auto& config) { config.tie_word_embeddings = true; }),
  };
}

std::shared_ptr<CausalLM> tiny_model(const PretrainedConfig& config, at::ScalarType dtype) {
  torch::manual_seed(7);
  auto model = AutoModelForCausalLM::from_config(config);
  model->to(dtype);
  model->eval();
  return model;
}

at::Tensor tiny_ids(int64_t batch, int64_t seq) {
  torch::manual_seed(11);
  return at::randint(1, 40, {batch, seq}, at::kLong);
}

}  // namespace transformers::testing
