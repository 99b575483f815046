#include <transformers/utils/nn/forward_hooks.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace transformers {
namespace {

template <typename Entries>
Entries of_module(const Entries& entries) {
  Entries kept;
  std::copy_if(entries.begin(), entries.end(), std::back_inserter(kept),
               [](const auto& entry) { return entry.owner == ForwardHooks::Owner::kModule; });
  return kept;
}

}  // namespace

ForwardHooks::ForwardHooks(const ForwardHooks& other)
    : pre_hooks_(of_module(other.pre_hooks_)), hooks_(of_module(other.hooks_)), next_id_(other.next_id_) {}

ForwardHooks& ForwardHooks::operator=(const ForwardHooks& other) {
  pre_hooks_ = of_module(other.pre_hooks_);
  hooks_ = of_module(other.hooks_);
  next_id_ = other.next_id_;
  return *this;
}

ForwardHooks::HookId ForwardHooks::register_forward_pre_hook(PreHook hook, Owner owner) {
  pre_hooks_.push_back({next_id_, std::move(hook), owner});
  return next_id_++;
}

ForwardHooks::HookId ForwardHooks::register_forward_hook(Hook hook, Owner owner) {
  hooks_.push_back({next_id_, std::move(hook), owner});
  return next_id_++;
}

void ForwardHooks::remove_forward_hook(HookId id) {
  const auto has_id = [id](const auto& entry) { return entry.id == id; };
  std::erase_if(pre_hooks_, has_id);
  std::erase_if(hooks_, has_id);
}

void ForwardHooks::run_forward_pre_hooks(at::Tensor& input) const {
  for (const auto& entry : pre_hooks_) {
    if (auto replacement = entry.hook(input); replacement.defined()) {
      input = std::move(replacement);
    }
  }
}

void ForwardHooks::run_forward_hooks(const at::Tensor& input, at::Tensor& output) const {
  for (const auto& entry : hooks_) {
    if (auto replacement = entry.hook(input, output); replacement.defined()) {
      output = std::move(replacement);
    }
  }
}

}  // namespace transformers
