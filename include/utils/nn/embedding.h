#pragma once

#include <torch/nn/modules/embedding.h>
#include <transformers/export.h>
#include <transformers/utils/nn/module.h>

#include <optional>

namespace TRANSFORMERS_API transformers {

/// `torch::nn::Embedding`, constructed according to `construction_options()`. weight: [num_embeddings, embedding_dim].
/// The row `padding_idx` gets no gradient and starts at zero.
class EmbeddingImpl : public torch::nn::EmbeddingImpl, public ForwardHooks {
 public:
  EmbeddingImpl(int64_t num_embeddings, int64_t embedding_dim, std::optional<int64_t> padding_idx = std::nullopt);

  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>& device = std::nullopt) const override;

  /// Makes this a copy of another table: parameters, options, buffers, hooks and mode.
  void copy_from(const EmbeddingImpl& other, TensorCopies& copies);

  /// Replaces the table by a new leaf parameter, which may have another number of rows.
  void set_weight(torch::Tensor new_weight);
};
TRANSFORMERS_MODULE(Embedding);

}  // namespace transformers
