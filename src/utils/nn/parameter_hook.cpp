#include "utils/nn/internal/parameter_hook.h"

#include <torch/csrc/autograd/variable.h>

namespace transformers {
namespace {

/// The type of an entry in a parameter's list of hooks; the hook is found by this type.
struct Entry {
  std::shared_ptr<ParameterHook> hook;

  at::TensorBase operator()(const at::TensorBase& gradient) const { return hook->changed(gradient); }
};

torch::autograd::hooks_list* hooks_of(const at::Tensor& parameter) {
  const auto* meta = parameter.defined() ? torch::autograd::impl::get_autograd_meta(parameter) : nullptr;
  return meta != nullptr ? meta->cpp_hooks_list_.get() : nullptr;
}

}  // namespace

std::shared_ptr<ParameterHook> parameter_hook(const at::Tensor& parameter) {
  auto* hooks = hooks_of(parameter);
  for (size_t i = 0; hooks != nullptr && i < hooks->size(); ++i) {
    if (const auto* found = (*hooks)[i].target<Entry>()) {
      return found->hook;
    }
  }
  return nullptr;
}

void add_parameter_hook(const at::Tensor& parameter, std::shared_ptr<ParameterHook> hook) {
  // register_hook would refuse a parameter that is frozen at the moment.
  if (hooks_of(parameter) == nullptr) {
    torch::autograd::impl::create_cpp_hook(parameter);
  }
  hooks_of(parameter)->emplace_back(Entry{std::move(hook)});
}

void share_parameter_hook(const at::Tensor& from, const at::Tensor& to) {
  if (auto hook = parameter_hook(from)) {
    add_parameter_hook(to, std::move(hook));
  }
}

void remove_parameter_hook(const at::Tensor& parameter) {
  auto* hooks = hooks_of(parameter);
  // The entry is emptied and not erased, because other hooks are identified by their index in the list.
  for (size_t i = 0; hooks != nullptr && i < hooks->size(); ++i) {
    if ((*hooks)[i].target<Entry>() != nullptr) {
      (*hooks)[i] = nullptr;
    }
  }
}

}  // namespace transformers
