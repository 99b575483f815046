#pragma once

#include <torch/torch.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/distributed/process_group.h>
#include <unistd.h>

#include <filesystem>
#include <string>

// What the programs that make the rows of docs/distributed.md share.

namespace transformers::testing {

/// 7.4 M parameters with 8 layers.
inline LlamaConfig table_config(int64_t layers = 8) {
  LlamaConfig config;
  config.vocab_size = 2000;
  config.hidden_size = 256;
  config.intermediate_size = 688;
  config.num_hidden_layers = layers;
  config.num_attention_heads = 4;
  return config;
}

inline LlamaForCausalLM fresh_table_model(int64_t layers = 8) {
  torch::manual_seed(1);
  return LlamaForCausalLM(table_config(layers));
}

/// [8, 64], the same on all ranks.
inline at::Tensor table_batch() {
  torch::manual_seed(2);
  return torch::randint(table_config().vocab_size, {8, 64}, torch::kLong);
}

/// The largest over the ranks.
inline double over_ranks(const ProcessGroup& group, double value) {
  const auto tensor = torch::full({1}, value, torch::kDouble);
  group.all_reduce(tensor, ReduceOp::kMax).wait();
  return tensor.item<double>();
}

/// The model's folder, written by rank 0, then there for all; rank 0 removes it.
inline std::string saved_table_model(const ProcessGroup& group, int64_t layers = 8) {
  const auto process = torch::full({1}, static_cast<int64_t>(getpid()), torch::kLong);
  group.broadcast(process, 0).wait();
  const auto folder =
      (std::filesystem::temp_directory_path() / ("rank_table_" + std::to_string(process.item<int64_t>()))).string();
  if (group.rank() == 0) {
    fresh_table_model(layers)->save_pretrained(folder);
  }
  group.barrier();
  return folder;
}

}  // namespace transformers::testing
