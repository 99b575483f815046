#pragma once

#include <torch/nn/module.h>
#include <transformers/export.h>

#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// Names and tensors of a module, in Python's order: of each module first its parameters, then its buffers, then its
/// children. A tied tensor is listed under each of its names.
using StateDict = torch::OrderedDict<std::string, torch::Tensor>;

/// Detached tensors that share the module's memory.
StateDict state_dict(const torch::nn::Module& module);

/// A tensor whose shape differs from the module's, with both shapes.
struct MismatchedKey {
  std::string name;
  std::vector<int64_t> found, expected;
};

/// What did not fit when tensors were loaded into a module.
struct IncompatibleKeys {
  std::vector<std::string> missing, unexpected;
  std::vector<MismatchedKey> mismatched;

  bool empty() const { return missing.empty() && unexpected.empty() && mismatched.empty(); }
  /// One sentence with all names; empty when everything fits.
  std::string to_string() const;
};

struct LoadStateDictOptions {
  /// Throw on a missing or unexpected name; a wrong shape always throws.
  bool strict = true;
  /// Use the given tensors themselves, with their dtype, instead of copying their values; needed on the meta device.
  bool assign = false;
};

/// Loads tensors into a module, as `torch.nn.Module.load_state_dict`. Changes nothing when it throws; the error names
/// all missing, unexpected and mis-shaped tensors.
IncompatibleKeys load_state_dict(torch::nn::Module& module, const StateDict& state, LoadStateDictOptions options = {});

/// Gives `target` the memory, dtype and device of `value`. It remains the same tensor object, so members, registered
/// entries, ties and requires_grad are kept. Used to move parameters off the meta device. Call it before autograd has
/// used the target.
void assign_tensor(torch::Tensor& target, const torch::Tensor& value);

}  // namespace transformers
