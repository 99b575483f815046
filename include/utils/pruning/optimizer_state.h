#pragma once

#include <torch/optim/optimizer.h>
#include <transformers/export.h>
#include <transformers/utils/pruning/parametrization.h>

#include <vector>

namespace TRANSFORMERS_API transformers {

/// A parameter that pruning made smaller, and what it kept of the old shape.
struct NarrowedParameter {
  at::Tensor parameter{};
  std::vector<int64_t> old_sizes{};
  TensorSelection select{};
};

/// A parameter that pruning had to add: the bias of a layer that had none. `beside` is the layer's weight.
struct AddedParameter {
  at::Tensor parameter{};
  at::Tensor beside{};
};

/// What a pruning did to parameters, in its order; what an optimizer of them has to follow.
struct PrunedParameters {
  std::vector<NarrowedParameter> narrowed{};
  std::vector<AddedParameter> added{};

  void append(PrunedParameters more);
};

/// What becomes of an optimizer's memory of a parameter (momentum, averages) when the parameter gets smaller.
enum class OptimizerState {
  kDrop,   // forgotten; the next step starts it anew
  kNarrow  // keeps the part that belongs to what was kept
};

/// For optimizers of one's own: a parameter's state that also derives from this can be narrowed and masked.
class NarrowableState {
 public:
  virtual ~NarrowableState() = default;
  /// Its tensors that have the parameter's shape; undefined ones are left alone.
  virtual std::vector<at::Tensor*> parameter_shaped() = 0;
};

/// Makes an optimizer fit parameters after a pruning. Added parameters join the group of the weight they lie beside.
/// kNarrow works for SGD, Adam, AdamW, RMSprop and Adagrad of LibTorch and for states that are a `NarrowableState`, and
/// throws for others, before it changes anything. LBFGS remembers the size of all parameters together and is refused:
/// build it anew.
void update_optimizer(torch::optim::Optimizer& optimizer, const PrunedParameters& pruned, OptimizerState state);

/// Zeroes what an optimizer remembers of entries that a `ParameterMask` hides, so that they stay zero in every step of
/// the optimizers that kNarrow works for. To be called once after masks were set; throws for others, LBFGS excepted,
/// which forgets everything.
void clear_hidden_state(torch::optim::Optimizer& optimizer);

}  // namespace transformers
