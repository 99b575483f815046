#pragma once

#include <torch/nn/modules/embedding.h>
#include <transformers/export.h>
#include <transformers/utils/nn/module.h>

#include <optional>

namespace TRANSFORMERS_API transformers {

/// `torch::nn::Embedding` built as `construction_options()` say. weight: [num_embeddings, embedding_dim]. The row
/// `padding_idx` gets no gradient and starts at zero.
class EmbeddingImpl : public torch::nn::EmbeddingImpl, public ForwardHooks {
 public:
  EmbeddingImpl(int64_t num_embeddings, int64_t embedding_dim, std::optional<int64_t> padding_idx = std::nullopt);

  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>& device = std::nullopt) const override;

  /// Becomes a copy of another table: parameters, options, buffers, hooks and mode.
  void copy_from(const EmbeddingImpl& other, TensorCopies& copies);

  /// Replaces the table, in its number of rows too, as a new leaf parameter.
  void set_weight(torch::Tensor new_weight);
};
TRANSFORMERS_MODULE(Embedding);

}  // namespace transformers
