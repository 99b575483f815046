#pragma once

#include <transformers/export.h>
#include <transformers/utils/modeling/linear_cross_entropy.h>
#include <transformers/utils/nn/embedding.h>
#include <transformers/utils/nn/linear.h>
#include <transformers/utils/tensor_parallel/collectives.h>

#include <memory>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Linear methods for layers that hold one rank's slice of their parameters. "Column-wise" and "row-wise" refer to the
// transposed weight, as in distributed/tensor_parallel.py, transformers 5.23.0.

/// The input that several layers read, such as query, key and value: one `copy_to_group` serves all of them, so that
/// one message sums its gradient.
class SharedInput {
 public:
  /// readers: the number of layers that read each tensor.
  SharedInput(ProcessGroup group, int64_t readers) : group_(std::move(group)), readers_(readers) {}
  at::Tensor copy(const at::Tensor& input);
  const ProcessGroup& group() const { return group_; }

 private:
  ProcessGroup group_;
  int64_t readers_;
  int64_t readers_left_ = 0;
  at::Tensor input_, copy_;  // until the last reader has read it
};

/// Computes this rank's output features: weight [part, in_features], bias [part]. The input is complete, the output a
/// part. Mirrors `ColwiseParallel`.
class ColwiseParallel : public LinearMethod {
 public:
  /// shared_rows: the rows that every rank holds, if some ranks hold the same rows; empty if none do.
  explicit ColwiseParallel(std::shared_ptr<SharedInput> input, std::vector<Part> shared_rows = {})
      : input_(std::move(input)), shared_rows_(std::move(shared_rows)) {}
  torch::Tensor forward(const LinearImpl& linear, const torch::Tensor& input) const override;
  std::shared_ptr<const LinearMethod> clone(const LinearImpl& copy, TensorCopies& copies) const override;

 private:
  std::shared_ptr<SharedInput> input_;
  std::vector<Part> shared_rows_;
};

/// Computes with this rank's input features: weight [out_features, part], bias [out_features], which is added once. The
/// input is a part, the output complete. Mirrors `RowwiseParallel`.
class RowwiseParallel : public LinearMethod {
 public:
  explicit RowwiseParallel(ProcessGroup group) : group_(std::move(group)) {}
  torch::Tensor forward(const LinearImpl& linear, const torch::Tensor& input) const override;

 private:
  ProcessGroup group_;
};

/// A head whose tokens are split over the ranks by `even_parts`: weight [part, features], bias [part] or undefined.
/// Calling it returns complete logits; its cross_entropy, which `loss_chunk_rows` of CausalLMOptions selects, gathers
/// no logits.
class VocabularyParallel : public CrossEntropyMethod {
 public:
  VocabularyParallel(ProcessGroup group, int64_t vocabulary) : group_(std::move(group)), vocabulary_(vocabulary) {}
  torch::Tensor forward(const LinearImpl& linear, const torch::Tensor& input) const override;
  torch::Tensor cross_entropy(const LinearImpl& linear, const torch::Tensor& hidden, const torch::Tensor& labels,
                              const LinearCrossEntropyOptions& options) const override;

 private:
  ProcessGroup group_;
  int64_t vocabulary_;
};

/// `linear_cross_entropy` of a head whose tokens are split over the ranks by `even_parts(vocabulary, group.size())`.
/// Each rank computes its part of the logits of a chunk, and three numbers per row are exchanged. hidden: [rows,
/// features] and labels: int64 [rows], the same on all ranks; weight: [part, features]; bias: [part] or undefined.
/// Throws on labels that are neither −100 nor in [0, vocabulary) (checked on the CPU only).
at::Tensor vocabulary_parallel_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& bias,
                                             const at::Tensor& labels, int64_t vocabulary, const ProcessGroup& group,
                                             const LinearCrossEntropyOptions& options = {});

/// Reduces an embedding to this rank's rows, split by `even_parts`, as a copy. Called with ids of the whole vocabulary,
/// it still returns complete embeddings: forward hooks look up the rows that are here and sum the results of all ranks.
void make_vocabulary_parallel(Embedding embedding, const ProcessGroup& group);

}  // namespace transformers
