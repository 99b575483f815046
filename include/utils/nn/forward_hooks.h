#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// The tensor that flows through a call, which hooks see and may replace. Structs that carry one overload this by ADL.
inline at::Tensor& hooked_tensor(at::Tensor& tensor) { return tensor; }

/// Callbacks around a module's forward, as `torch.nn.Module.register_forward_pre_hook` and `register_forward_hook`
/// offer in Python and LibTorch's modules do not. They run when a module is called through its holder
/// (`layer(hidden_states)`), not on a direct `layer->forward(hidden_states)`, again as in Python. A clone of a module
/// has its hooks under the same ids, but for those of an observer.
class ForwardHooks {
 public:
  /// Gets the input; returns its replacement, or an undefined tensor to leave it.
  using PreHook = std::function<at::Tensor(const at::Tensor& input)>;
  /// Gets input and output; returns the output's replacement, or an undefined tensor to leave it.
  using Hook = std::function<at::Tensor(const at::Tensor& input, const at::Tensor& output)>;
  using HookId = int64_t;

  /// Whose a hook is: the module's, or that of an object beside it, which will remove it from this module alone.
  enum class Owner { kModule, kObserver };

  ForwardHooks() = default;
  ForwardHooks(const ForwardHooks& other);
  ForwardHooks& operator=(const ForwardHooks& other);
  ~ForwardHooks() = default;

  HookId register_forward_pre_hook(PreHook hook, Owner owner = Owner::kModule);
  HookId register_forward_hook(Hook hook, Owner owner = Owner::kModule);
  /// Removes either kind; an id that is gone already is ignored.
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
