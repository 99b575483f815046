#pragma once

#include <transformers/export.h>
#include <transformers/utils/nn/linear.h>
#include <transformers/utils/nn/module.h>

#include <memory>
#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// One layer's matrices by what they do, as handles on the model's own modules. Pruning goes by them and knows no
/// family.
struct LayerStructure {
  std::shared_ptr<Module> block{};                      // takes and gives the hidden states
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

/// Keeps the listed rows (dim 0) or columns (dim 1) of a layer in place, as `prune_linear_layer` does in a new one: own
/// memory, dtype, device, which parameters require gradients. The parameters are new ones: an optimizer that held the
/// old must be built anew. A packed weight is packed again.
void keep_features(Linear layer, const at::Tensor& index, int64_t dim);

/// Throws, naming the layer, when it multiplies in a way that holds more than its weight: adapters, quantised weights.
/// What is merged or restored can be pruned.
void check_plain_product(const std::string& name, const LinearImpl& layer);

}  // namespace transformers
