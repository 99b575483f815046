#include <transformers/utils/nn/forward_hooks.h>

namespace transformers {

ForwardHooks::HookId ForwardHooks::register_forward_pre_hook(PreHook hook) {
  pre_hooks_.emplace_back(next_id_, std::move(hook));
  return next_id_++;
}

ForwardHooks::HookId ForwardHooks::register_forward_hook(Hook hook) {
  hooks_.emplace_back(next_id_, std::move(hook));
  return next_id_++;
}

void ForwardHooks::remove_forward_hook(HookId id) {
  const auto has_id = [id](const auto& entry) { return entry.first == id; };
  std::erase_if(pre_hooks_, has_id);
  std::erase_if(hooks_, has_id);
}

void ForwardHooks::run_forward_pre_hooks(at::Tensor& input) const {
  for (const auto& [id, hook] : pre_hooks_) {
    if (auto replacement = hook(input); replacement.defined()) {
      input = std::move(replacement);
    }
  }
}

void ForwardHooks::run_forward_hooks(const at::Tensor& input, at::Tensor& output) const {
  for (const auto& [id, hook] : hooks_) {
    if (auto replacement = hook(input, output); replacement.defined()) {
      output = std::move(replacement);
    }
  }
}

}  // namespace transformers
