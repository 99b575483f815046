#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>

#include <functional>
#include <memory>
#include <optional>

namespace TRANSFORMERS_API transformers {

struct MaskState;

/// A mask on one parameter: hidden entries are zero and get no gradient, whatever module uses the parameter.
///
/// The counterpart of `torch.nn.utils.parametrize` with a parametrization mask × weight. LibTorch's modules cannot
/// compute a parameter anew in each forward, so the parameter itself stays the leaf: the same tensor object under the
/// same name, known to optimizers and state dicts, its data masked in place. What the mask hides is kept beside it and
/// comes back when the mask is lifted. The mask lives on the parameter, not in this object, which is a handle to it:
/// copies mean the same mask, and it stays when the last of them goes.
///
/// An optimizer moves hidden entries only by what it remembers of gradients from before: clear that with
/// `clear_hidden_state` (optimizer_state.h), or call `apply` after each step. Unlike Python's, hidden entries do not
/// decay with the weight.
class ParameterMask {
 public:
  /// Masks `parameter`, a floating leaf that has no mask yet. mask: 0 or 1 of any dtype, of the parameter's number of
  /// dimensions, each of its size or 1, on its device. The tensor itself is kept, not a copy: when it is a buffer of a
  /// module it follows that module's moves and loads.
  ParameterMask(at::Tensor parameter, at::Tensor mask);

  /// The mask that lies on a parameter, if one does.
  static std::optional<ParameterMask> on(const at::Tensor& parameter);

  const at::Tensor& parameter() const { return parameter_; }
  const at::Tensor& mask() const;

  /// Takes the values of another mask of the same shape: what it shows again gets the value it had when it was hidden.
  void set(const at::Tensor& mask);

  /// Zeroes hidden entries again, after something wrote to the parameter or to the mask.
  void apply();

  /// The hidden values, zero where the mask shows the parameter. Same shape, dtype and device as the parameter.
  at::Tensor hidden() const;
  /// Replaces the hidden values; entries that are shown are ignored.
  void set_hidden(const at::Tensor& values);

  /// The parameter as it would be without a mask.
  at::Tensor original() const;

  /// Takes the mask off; hidden entries stay zero and can be trained again.
  void remove();
  /// Takes the mask off; hidden entries get their values back.
  void lift();

 private:
  ParameterMask(at::Tensor parameter, std::shared_ptr<MaskState> state);

  at::Tensor parameter_;
  std::shared_ptr<MaskState> state_;
};

/// What a smaller tensor keeps of one with the old shape, such as an `index_select`.
using TensorSelection = std::function<at::Tensor(const at::Tensor&)>;

/// Makes a parameter smaller while it stays the same tensor object. Its mask and what that hides are narrowed with it;
/// its gradient goes. Rows and columns that a mask treats alike must be treated alike by `select`.
void narrow_parameter(const at::Tensor& parameter, const TensorSelection& select);

}  // namespace transformers
