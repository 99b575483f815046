#include <ATen/ops/empty.h>
#include <transformers/utils/nn/construction.h>
#include <transformers/utils/nn/embedding.h>

#include "utils/nn/copy_layer.h"

namespace transformers {

EmbeddingImpl::EmbeddingImpl(int64_t num_embeddings, int64_t embedding_dim, std::optional<int64_t> padding_idx)
    // The base class initialises what it builds, so it builds one element and the real table replaces it.
    : torch::nn::EmbeddingImpl(torch::nn::EmbeddingOptions(1, 1)) {
  TORCH_CHECK(!padding_idx || (*padding_idx >= 0 && *padding_idx < num_embeddings),
              "Embedding: padding_idx must be in [0, ", num_embeddings, "), got ", padding_idx.value_or(0));
  options = torch::nn::EmbeddingOptions(num_embeddings, embedding_dim).padding_idx(padding_idx);
  const auto& construction = construction_options();
  set_weight(at::empty({num_embeddings, embedding_dim},
                       at::TensorOptions().dtype(construction.dtype).device(construction.device)));
  if (construction.initialize && !weight.is_meta()) {
    reset_parameters();
  }
}

void EmbeddingImpl::set_weight(torch::Tensor new_weight) {
  TORCH_CHECK(new_weight.dim() == 2, "Embedding: the table must have 2 dimensions, got ", new_weight.dim());
  options.num_embeddings(new_weight.size(0)).embedding_dim(new_weight.size(1));
  weight = new_weight.detach().requires_grad_(weight.requires_grad());
  parameters_["weight"] = weight;
}

void EmbeddingImpl::copy_from(const EmbeddingImpl& other, TensorCopies& copies) {
  copy_layer(other, *this, parameters_, copies);
}

std::shared_ptr<torch::nn::Module> EmbeddingImpl::clone(const std::optional<torch::Device>& device) const {
  auto copy = std::make_shared<EmbeddingImpl>(*this);
  TensorCopies copies(device);
  copy->copy_from(*this, copies);
  return copy;
}

}  // namespace transformers
