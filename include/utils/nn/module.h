#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <transformers/utils/nn/forward_hooks.h>

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace transformers {

/// Base of the library's modules: `torch::nn::Module` with what Python's has and C++'s lacks.
///
/// - `to(dtype)` casts floating parameters and buffers only, with their gradients; integers and bools keep their type.
/// - non-persistent buffers follow the device, are in no state dict and keep their dtype in every cast.
/// - forward hooks.
/// State dicts: state_dict.h.
class Module : public torch::nn::Module, public ForwardHooks {
 public:
  using torch::nn::Module::Module;

  void to(torch::Device device, torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Device device, bool non_blocking = false) override;

  /// The non-persistent buffers of this module alone.
  const std::vector<std::pair<std::string, torch::Tensor>>& non_persistent_buffers() const {
    return non_persistent_buffers_;
  }

 protected:
  /// Returns `tensor`, to be kept as a member; member and entry stay one tensor through every move.
  torch::Tensor register_non_persistent_buffer(std::string name, torch::Tensor tensor);

 private:
  template <typename... Target>
  void move_to(Target... target);

  std::vector<std::pair<std::string, torch::Tensor>> non_persistent_buffers_;
};

/// `torch::nn::ModuleHolder` whose call runs the module's forward hooks. Outputs of which no overload of
/// `hooked_tensor` knows the tensor are seen by no hook.
template <typename Contained>
class ModuleHolder : public torch::nn::ModuleHolder<Contained> {
 public:
  using torch::nn::ModuleHolder<Contained>::ModuleHolder;

  template <typename Input, typename... Rest>
  auto operator()(const Input& input, Rest&&... rest) const {
    Contained& module = *this->ptr();
    if (!module.has_forward_hooks()) {
      return module.forward(input, std::forward<Rest>(rest)...);
    }
    Input hooked_input = input;
    module.run_forward_pre_hooks(hooked_tensor(hooked_input));
    auto output = module.forward(hooked_input, std::forward<Rest>(rest)...);
    if constexpr (requires { hooked_tensor(output); }) {
      module.run_forward_hooks(hooked_tensor(hooked_input), hooked_tensor(output));
    }
    return output;
  }
};

}  // namespace transformers

/// Defines the holder `Name` of the module class `NameImpl`, as TORCH_MODULE does, with forward hooks.
#define TRANSFORMERS_MODULE(Name)                                 \
  class Name : public ::transformers::ModuleHolder<Name##Impl> {  \
   public:                                                        \
    using ::transformers::ModuleHolder<Name##Impl>::ModuleHolder; \
    using Impl = Name##Impl;                                      \
  }
