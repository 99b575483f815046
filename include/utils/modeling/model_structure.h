#pragma once

#include <transformers/export.h>
#include <transformers/utils/nn/linear.h>
#include <transformers/utils/nn/module.h>

#include <memory>
#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// The matrices of one layer by their function, as handles to the model's own modules. Pruning works on them and does
/// not depend on a family.
struct LayerStructure {
  std::shared_ptr<Module> block{};                      // takes and returns the hidden states
  Linear query{nullptr}, key{nullptr}, value{nullptr};  // rows: heads, one after the other
  Linear attention_output{nullptr};                     // columns: query heads
  std::vector<Linear> mlp_inputs{};                     // rows: channels
  Linear mlp_output{nullptr};                           // columns: channels
};

struct ModelStructure {
  std::vector<LayerStructure> layers{};
  std::vector<std::shared_ptr<torch::nn::Module>> norms{};  // each parameter is [hidden]
  std::vector<Linear> heads{};                              // columns: the last hidden states

  std::vector<std::shared_ptr<torch::nn::Module>> blocks() const;
};

/// Keeps the listed rows (dim 0) or columns (dim 1) of a layer, in place, where `prune_linear_layer` returns a new
/// layer. The parameters are new tensors with memory of their own and the same dtype, device and requires_grad, so an
/// optimizer of the old ones must be rebuilt. A packed weight is packed again.
void keep_features(Linear layer, const at::Tensor& index, int64_t dim);

/// Throws, naming the layer, when its linear method holds more than its weight: adapters, quantised weights. A layer
/// whose adapters are merged or whose weight is restored can be pruned.
void check_plain_product(const std::string& name, const LinearImpl& layer);

}  // namespace transformers
