#include <ATen/ATen.h>
#include <transformers/utils/modeling/model_structure.h>
#include <transformers/utils/nn/linear_slices.h>
#include <transformers/utils/nn/packed_linear.h>
#include <transformers/utils/pytorch_utils.h>

namespace transformers {

std::vector<std::shared_ptr<torch::nn::Module>> ModelStructure::blocks() const {
  std::vector<std::shared_ptr<torch::nn::Module>> blocks;
  for (const auto& layer : layers) {
    blocks.push_back(layer.block);
  }
  return blocks;
}

void keep_features(Linear layer, const at::Tensor& index, int64_t dim) {
  const auto smaller = prune_linear_layer(layer, index, dim);
  const bool bias_requires_grad = layer->bias.defined() && layer->bias.requires_grad();
  const bool is_packed = dynamic_cast<const PackedLinear*>(layer->method().get()) != nullptr;
  layer->set_parameters(smaller->weight, smaller->bias);
  if (layer->bias.defined()) {
    layer->bias.requires_grad_(bias_requires_grad);
  }
  if (is_packed) {
    layer->set_method(std::make_shared<PackedLinear>(layer->weight));
  }
}

void check_plain_product(const std::string& name, const LinearImpl& layer) {
  const auto* method = layer.method().get();
  const bool follows_weight = method == nullptr || dynamic_cast<const RowSlices*>(method) != nullptr ||
                              dynamic_cast<const ColumnSlices*>(method) != nullptr ||
                              dynamic_cast<const PackedLinear*>(method) != nullptr;
  TORCH_CHECK(follows_weight, name, ": is adapted or quantised and can be neither pruned nor resized; merge it or ",
              "restore its plain linear method first");
}

}  // namespace transformers
