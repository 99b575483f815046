#pragma once

#include <torch/nn/module.h>
#include <transformers/export.h>

#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// Names and tensors of a module, in Python's order: of each module first its parameters, then its buffers, then its
/// children. A tied tensor stands under each of its names.
using StateDict = torch::OrderedDict<std::string, torch::Tensor>;

/// Detached tensors that share the module's memory.
StateDict state_dict(const torch::nn::Module& module);

/// A tensor whose shape is not the module's; both shapes.
struct MismatchedKey {
  std::string name;
  std::vector<int64_t> found, expected;
};

/// What did not fit when tensors were put into a module.
struct IncompatibleKeys {
  std::vector<std::string> missing, unexpected;
  std::vector<MismatchedKey> mismatched;

  bool empty() const { return missing.empty() && unexpected.empty() && mismatched.empty(); }
  /// One sentence with every name in it; empty text when nothing is wrong.
  std::string to_string() const;
};

struct LoadStateDictOptions {
  /// Throw on a missing or unexpected name; a wrong shape always throws.
  bool strict = true;
  /// Take the given tensors themselves, with their dtype, instead of copying values; needed on the meta device.
  bool assign = false;
};

/// Fills a module, as `torch.nn.Module.load_state_dict`. Nothing is changed when it throws; the one error names all
/// missing, unexpected and mis-shaped tensors.
IncompatibleKeys load_state_dict(torch::nn::Module& module, const StateDict& state, LoadStateDictOptions options = {});

/// Makes `target` be `value` (memory, dtype and device) while it stays the same tensor object: members, registered
/// entries, ties and requires_grad keep. The way out of the meta device. Call it before anything has used autograd on
/// the target.
void assign_tensor(torch::Tensor& target, const torch::Tensor& value);

}  // namespace transformers
