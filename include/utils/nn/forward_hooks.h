#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// The tensor of an argument or result that hooks see and may replace. Structs that hold such a tensor overload this
/// function, which is found by ADL.
inline at::Tensor& hooked_tensor(at::Tensor& tensor) { return tensor; }

/// Callbacks around a module's forward, as Python's `torch.nn.Module.register_forward_pre_hook` and
/// `register_forward_hook`, which LibTorch's modules lack. They run when a module is called through its holder
/// (`layer(hidden_states)`), not on a direct `layer->forward(hidden_states)`, as in Python. A clone of a module has the
/// same hooks under the same ids, except those of observers.
class ForwardHooks {
 public:
  /// Receives the input; returns its replacement, or an undefined tensor to keep it.
  using PreHook = std::function<at::Tensor(const at::Tensor& input)>;
  /// Receives input and output; returns the output's replacement, or an undefined tensor to keep it.
  using Hook = std::function<at::Tensor(const at::Tensor& input, const at::Tensor& output)>;
  using HookId = int64_t;

  /// The owner of a hook: the module, or an observer, which removes the hook from this module alone.
  enum class Owner { kModule, kObserver };

  ForwardHooks() = default;
  ForwardHooks(const ForwardHooks& other);
  ForwardHooks& operator=(const ForwardHooks& other);
  ~ForwardHooks() = default;

  HookId register_forward_pre_hook(PreHook hook, Owner owner = Owner::kModule);
  HookId register_forward_hook(Hook hook, Owner owner = Owner::kModule);
  /// Removes a hook of either kind; an id that was removed already is ignored.
  void remove_forward_hook(HookId id);
  bool has_forward_hooks() const { return !pre_hooks_.empty() || !hooks_.empty(); }

  void run_forward_pre_hooks(at::Tensor& input) const;
  void run_forward_hooks(const at::Tensor& input, at::Tensor& output) const;

 private:
  template <typename Function>
  struct Entry {
    HookId id;
    Function hook;
    Owner owner;
  };

  std::vector<Entry<PreHook>> pre_hooks_;
  std::vector<Entry<Hook>> hooks_;
  HookId next_id_ = 0;
};

}  // namespace transformers
