#pragma once

#include <torch/optim/optimizer.h>
#include <transformers/export.h>
#include <transformers/utils/pruning/parametrization.h>

#include <vector>

namespace TRANSFORMERS_API transformers {

/// A parameter that pruning made smaller, and the selection of the old entries that it keeps.
struct NarrowedParameter {
  at::Tensor parameter{};
  std::vector<int64_t> old_sizes{};
  TensorSelection select{};
};

/// A parameter that pruning has added: the bias of a layer that had none. `beside` is the layer's weight.
struct AddedParameter {
  at::Tensor parameter{};
  at::Tensor beside{};
};

/// The changes of a pruning to parameters, in order, which an optimizer of these parameters has to follow.
struct PrunedParameters {
  std::vector<NarrowedParameter> narrowed{};
  std::vector<AddedParameter> added{};

  void append(PrunedParameters more);
};

/// What happens to an optimizer's state of a parameter (momentum, averages) when the parameter becomes smaller.
enum class OptimizerState {
  kDrop,   // dropped; the next step initialises it again
  kNarrow  // reduced to the entries that were kept
};

/// For your own optimizers: parameter states that also derive from this class can be narrowed and masked.
class NarrowableState {
 public:
  virtual ~NarrowableState() = default;
  /// The state's tensors that have the parameter's shape; undefined ones are ignored.
  virtual std::vector<at::Tensor*> parameter_shaped() = 0;
};

/// Adapts an optimizer to its parameters after a pruning. Added parameters join the group of the weight beside them.
/// kNarrow supports SGD, Adam, AdamW, RMSprop and Adagrad of LibTorch and states that are a `NarrowableState`; it
/// throws on others before it changes anything. Throws on LBFGS, which stores the size of all parameters together and
/// has to be rebuilt.
void update_optimizer(torch::optim::Optimizer& optimizer, const PrunedParameters& pruned, OptimizerState state);

/// Zeroes an optimizer's state of entries that a `ParameterMask` hides, so that these entries stay zero in every step.
/// Works for the optimizers that kNarrow supports; call it once after setting masks. Throws on others, except LBFGS,
/// whose whole state is dropped.
void clear_hidden_state(torch::optim::Optimizer& optimizer);

}  // namespace transformers
