#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace transformers {

/// The tensor that flows through a call, which hooks see and may replace. Structs that carry one overload this by ADL.
inline at::Tensor& hooked_tensor(at::Tensor& tensor) { return tensor; }

/// Callbacks around a module's forward, as `torch.nn.Module.register_forward_pre_hook` and `register_forward_hook`
/// offer in Python and LibTorch's modules do not. They run when a module is called through its holder
/// (`layer(hidden_states)`), not on a direct `layer->forward(hidden_states)`, again as in Python.
class ForwardHooks {
 public:
  /// Gets the input; returns its replacement, or an undefined tensor to leave it.
  using PreHook = std::function<at::Tensor(const at::Tensor& input)>;
  /// Gets input and output; returns the output's replacement, or an undefined tensor to leave it.
  using Hook = std::function<at::Tensor(const at::Tensor& input, const at::Tensor& output)>;
  using HookId = int64_t;

  HookId register_forward_pre_hook(PreHook hook);
  HookId register_forward_hook(Hook hook);
  /// Removes either kind; an id that is gone already is ignored.
  void remove_forward_hook(HookId id);
  bool has_forward_hooks() const { return !pre_hooks_.empty() || !hooks_.empty(); }

  void run_forward_pre_hooks(at::Tensor& input) const;
  void run_forward_hooks(const at::Tensor& input, at::Tensor& output) const;

 private:
  std::vector<std::pair<HookId, PreHook>> pre_hooks_;
  std::vector<std::pair<HookId, Hook>> hooks_;
  HookId next_id_ = 0;
};

}  // namespace transformers
