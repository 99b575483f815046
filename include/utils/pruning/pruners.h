#pragma once

#include <transformers/export.h>
#include <transformers/utils/pruning/base_structured_sparsifier.h>

#include <functional>

namespace TRANSFORMERS_API transformers {

/// Masks the int(rows · sparsity_level) rows of smallest L1 norm. Mirrors `SaliencyPruner`.
class SaliencyPruner : public BaseStructuredSparsifier {
 public:
  using BaseStructuredSparsifier::BaseStructuredSparsifier;

 protected:
  at::Tensor update_mask(const SparsityGroup& group, const at::Tensor& weight, const at::Tensor& mask) const override;
};

/// The same for each quarter of the rows separately, which are the gates of an LSTM's weights. Mirrors
/// `LSTMSaliencyPruner`.
class LSTMSaliencyPruner : public BaseStructuredSparsifier {
 public:
  using BaseStructuredSparsifier::BaseStructuredSparsifier;

 protected:
  at::Tensor update_mask(const SparsityGroup& group, const at::Tensor& weight, const at::Tensor& mask) const override;
};

/// Filter pruning via geometric median: masks the round(rows · sparsity_level) rows whose distances to all other rows
/// have the smallest sum. A level of 0 or below unmasks every row, one of 1 or above masks all. Mirrors `FPGMPruner`.
class FPGMPruner : public BaseStructuredSparsifier {
 public:
  /// Distances between rows: [rows, elements] → [rows, rows].
  using Distance = std::function<at::Tensor(const at::Tensor&)>;

  /// p: 1 or 2, the norm of the difference of two rows.
  explicit FPGMPruner(SparsityDefaults defaults = {}, int p = 2);
  FPGMPruner(SparsityDefaults defaults, Distance distance);

  /// The sum of each row's distances. weight: [rows, ...] → [rows].
  at::Tensor distances(const at::Tensor& weight) const;

 protected:
  at::Tensor update_mask(const SparsityGroup& group, const at::Tensor& weight, const at::Tensor& mask) const override;

 private:
  Distance distance_;
};

}  // namespace transformers
