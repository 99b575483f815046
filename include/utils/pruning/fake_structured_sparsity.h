#pragma once

#include <transformers/export.h>
#include <transformers/utils/pruning/parametrization.h>

namespace TRANSFORMERS_API transformers {

/// A `ParameterMask` of whole rows. Mirrors `FakeStructuredSparsity` of torch.ao.pruning 2.11: there a parametrization
/// computes mask × weight, here the parameter holds the result (parametrization.h). With `prune_bias`, a layer's bias
/// gets a mask of the same rows, so that no hook has to add it after the forward, whatever the dimension.
class FakeStructuredSparsity : private ParameterMask {
 public:
  /// parameter: [rows, ...]. mask: bool [rows], which is copied; undefined keeps every row.
  explicit FakeStructuredSparsity(const at::Tensor& parameter, const at::Tensor& mask = {});

  /// The mask of rows of a parameter, if it has one.
  static std::optional<FakeStructuredSparsity> on(const at::Tensor& parameter);

  /// bool [rows]: true for rows that are kept.
  at::Tensor mask() const;
  /// Rows that the new mask keeps again get their earlier values back.
  void set_mask(const at::Tensor& mask);

  using ParameterMask::apply;
  using ParameterMask::hidden;
  using ParameterMask::lift;
  using ParameterMask::original;
  using ParameterMask::parameter;
  using ParameterMask::remove;
  using ParameterMask::set_hidden;

 private:
  explicit FakeStructuredSparsity(ParameterMask mask) : ParameterMask(std::move(mask)) {}
};

}  // namespace transformers
