#pragma once

#include <torch/torch.h>
#include <transformers/utils/modeling/causal_lm.h>
#include <transformers/utils/nn/module.h>

#include <vector>

#include "utils/distributed/rank_launcher.h"

namespace transformers::testing {

/// The part of a batch that a rank sees.
inline at::Tensor share_of(const at::Tensor& batch, const Rank& rank) { return batch.chunk(rank.size)[rank.rank]; }

inline at::Tensor loss_of(CausalLM& model, const at::Tensor& ids) {
  return model.forward({.input_ids = ids, .use_cache = false}, {.labels = ids}).loss;
}

/// Two branches and a buffer that counts calls.
struct BranchesImpl : Module {
  BranchesImpl() {
    first = register_module("first", torch::nn::Linear(3, 3));
    second = register_module("second", torch::nn::Linear(3, 3));
    never = register_module("never", torch::nn::Linear(3, 3));
    calls = register_buffer("calls", torch::zeros({1}));
  }
  /// branch: 0, 1, or 2 for both outputs.
  std::vector<at::Tensor> forward(const at::Tensor& input, int64_t branch) {
    calls += 1;
    switch (branch) {
      case 0:
        return {first(input)};
      case 1:
        return {second(input)};
      default:
        return {first(input), second(input)};
    }
  }
  torch::nn::Linear first{nullptr}, second{nullptr}, never{nullptr};
  at::Tensor calls;
};

}  // namespace transformers::testing
