#pragma once

#include <transformers/export.h>
#include <transformers/utils/pruning/parametrization.h>

namespace TRANSFORMERS_API transformers {

/// A `ParameterMask` of whole rows. Mirrors `FakeStructuredSparsity` of torch.ao.pruning 2.11: there a parametrization
/// computes mask × weight, here the parameter holds it (parametrization.h). With `prune_bias` a layer's bias gets a
/// mask of the same rows, so that no hook has to add it after the forward, in whichever dimension.
class FakeStructuredSparsity : private ParameterMask {
 public:
  /// mask: bool [rows], undefined keeps every row; copied. parameter: [rows, ...].
  explicit FakeStructuredSparsity(const at::Tensor& parameter, const at::Tensor& mask = {});

  /// The mask of rows that lies on a parameter, if one does.
  static std::optional<FakeStructuredSparsity> on(const at::Tensor& parameter);

  /// bool [rows]: true for rows that are kept.
  at::Tensor mask() const;
  /// Rows that a new mask keeps again get the values they had.
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
