#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>

#include <functional>
#include <memory>
#include <optional>

namespace transformers {
struct MaskState;
}  // namespace transformers

namespace TRANSFORMERS_API transformers {

/// A mask on one parameter: hidden entries are zero and get no gradient, whichever module uses the parameter.
///
/// The counterpart of `torch.nn.utils.parametrize` with a parametrization mask × weight. LibTorch's modules cannot
/// compute a parameter in each forward, so the parameter itself remains the leaf: the same tensor object under the same
/// name, known to optimizers and state dicts, with its data masked in place. The hidden values are kept separately and
/// restored when the mask is lifted. The mask is attached to the parameter; this object is only a handle: copies refer
/// to the same mask, and the mask stays when the last handle is destroyed.
///
/// An optimizer changes hidden entries only through its state from earlier gradients: clear it with
/// `clear_hidden_state` (optimizer_state.h), or call `apply` after each step. Unlike in Python, hidden entries do not
/// decay with the weight.
class ParameterMask {
 public:
  /// Masks `parameter`, a floating leaf that has no mask yet. mask: 0 or 1 of any dtype, of the parameter's number of
  /// dimensions, each of its size or 1, on its device. The tensor itself is kept, not a copy: if it is a buffer of a
  /// module, it follows that module when it is moved or loaded.
  ParameterMask(at::Tensor parameter, at::Tensor mask);

  /// The mask of a parameter, if it has one.
  static std::optional<ParameterMask> on(const at::Tensor& parameter);

  const at::Tensor& parameter() const { return parameter_; }
  const at::Tensor& mask() const;

  /// Copies the values of another mask of the same shape. Entries that are no longer hidden get the values they had
  /// when they were hidden.
  void set(const at::Tensor& mask);

  /// Zeroes hidden entries again after something has written to the parameter or to the mask.
  void apply();

  /// The hidden values; zero where nothing is hidden. Same shape, dtype and device as the parameter.
  at::Tensor hidden() const;
  /// Replaces the hidden values; entries of `values` that are not hidden are ignored.
  void set_hidden(const at::Tensor& values);

  /// The parameter as it would be without a mask.
  at::Tensor original() const;

  /// Removes the mask; hidden entries stay zero and can be trained again.
  void remove();
  /// Removes the mask; hidden entries get their values back.
  void lift();

 private:
  ParameterMask(at::Tensor parameter, std::shared_ptr<MaskState> state);

  at::Tensor parameter_;
  std::shared_ptr<MaskState> state_;
};

/// Maps a tensor of the old shape to the entries that the smaller one keeps, e.g. an `index_select`.
using TensorSelection = std::function<at::Tensor(const at::Tensor&)>;

/// Makes a parameter smaller while it remains the same tensor object. Its mask and hidden values are narrowed with it;
/// its gradient is dropped. Where the mask has size 1 along a dimension, `select` must treat all entries along it
/// alike.
void narrow_parameter(const at::Tensor& parameter, const TensorSelection& select);

}  // namespace transformers
