#pragma once

#include <torch/torch.h>
#include <transformers/utils/nn/linear.h>
#include <transformers/utils/nn/state_dict.h>
#include <transformers/utils/pruning/patterns.h>

#include <functional>
#include <nlohmann/json.hpp>

namespace transformers::testing {

/// A Sequential of the layers that scripts/goldens/pruning.py names: [["linear", 7, 5, true], ["relu"], …].
torch::nn::Sequential sequential_of(const nlohmann::json& layers);

/// The names of `sequential_of`'s activations.
const std::vector<std::string>& activation_names();

/// The same layers with our own Linear for each "linear", which no Sequential takes.
struct OwnLinearsImpl : torch::nn::Module {
  explicit OwnLinearsImpl(const nlohmann::json& layers);
  torch::Tensor forward(const torch::Tensor& input) const;

  Chain chain;

 private:
  std::vector<std::function<torch::Tensor(const torch::Tensor&)>> steps_;
};
TORCH_MODULE(OwnLinears);

/// An LSTM, perhaps a LayerNorm, and a Linear on all its outputs: what a Sequential cannot say.
struct LSTMLinearImpl : torch::nn::Module {
  LSTMLinearImpl(int64_t inputs, int64_t hidden, int64_t outputs, int64_t layers, bool with_norm);
  torch::Tensor forward(const torch::Tensor& input);

  torch::nn::LSTM lstm{nullptr};
  torch::nn::LayerNorm norm{nullptr};
  torch::nn::Linear linear{nullptr};
};
TORCH_MODULE(LSTMLinear);

/// Parameters and buffers, copied.
StateDict copy_of_state(const torch::nn::Module& module);

}  // namespace transformers::testing
