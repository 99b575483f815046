#pragma once

/// \file
/// The room utils/nn holds building blocks that are not specific to transformer models: the base class `Module`,
/// layers with forward hooks and exchangeable linear methods, state dicts, autocast and activation checkpointing. It
/// does not know models or configs; those are in utils/modeling.
///
///     class ProjectionImpl : public Cloneable<ProjectionImpl> {
///      public:
///       explicit ProjectionImpl(int64_t size) { proj = register_module("proj", Linear(size, size)); }
///       torch::Tensor forward(const torch::Tensor& x) { return proj(x); }
///       auto members() { return std::tie(proj); }
///       Linear proj{nullptr};
///     };
///     TRANSFORMERS_MODULE(Projection);

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <transformers/export.h>
#include <transformers/utils/nn/forward_hooks.h>
#include <transformers/utils/nn/tensor_copies.h>

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// Base class of the library's modules: `torch::nn::Module` with features that Python's class has and LibTorch's lacks.
///
/// - `to(dtype)` casts floating parameters and buffers only, with their gradients; integers and bools keep their type.
/// - non-persistent buffers follow the device, are in no state dict and keep their dtype in every cast.
/// - `parameters()` gives a tied parameter once, so that an optimizer steps it once. (`named_parameters()` has all its
///   names, and a plain `torch::nn::Module` around a tied model lists it twice: `trainable_parameters` is for that.)
/// - forward hooks; a clone has those of the original.
/// State dicts are in state_dict.h.
///
/// Threads: any number of threads may call `forward` of one module concurrently, as `generate` does, while none changes
/// it (train, to, load, prune, merge, hooks). Exceptions are modules that are placed on several devices or on disk,
/// split over several ranks, or have hooks with a state: only one thread at a time may call those. Only one thread at a
/// time may accumulate gradients into the parameters.
class Module : public torch::nn::Module, public ForwardHooks {
 public:
  using torch::nn::Module::Module;

  void to(torch::Device device, torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Device device, bool non_blocking = false) override;

  /// Called by `torch::load`: copies values into the existing tensors, as Python's `load_state_dict` does, so that
  /// dtypes, devices and ties are kept. Throws, naming the tensor, on one that is missing or of another shape.
  void load(torch::serialize::InputArchive& archive) override;

  /// Returns each parameter once, as in Python.
  std::vector<torch::Tensor> parameters(bool recurse = true) const;

  /// The non-persistent buffers of this module, without those of its submodules.
  const std::vector<std::pair<std::string, torch::Tensor>>& non_persistent_buffers() const {
    return non_persistent_buffers_;
  }

 protected:
  /// Returns `tensor`, to be kept as a member; member and registered entry remain the same tensor when the module
  /// moves.
  torch::Tensor register_non_persistent_buffer(std::string name, torch::Tensor tensor);

  /// For `Cloneable`: in a copy made by the copy constructor, replaces all tensors and submodules, which are still
  /// those of the original, by copies. `members` are the fields that hold them: tensors and module holders.
  template <typename... Members>
  void own(const std::optional<torch::Device>& device, Members&... members) {
    TensorCopies copies(device);
    own_tensors(copies);
    (own_member(copies, members), ...);
  }

 private:
  template <typename... Target>
  void move_to(Target... target);
  void own_tensors(TensorCopies& copies);
  static void own_member(TensorCopies& copies, torch::Tensor& member) { member = copies.of(member); }
  template <typename Contained>
  void own_member(TensorCopies& copies, torch::nn::ModuleHolder<Contained>& member) {
    member = torch::nn::ModuleHolder<Contained>(
        std::dynamic_pointer_cast<Contained>(own_child(copies.device(), member.ptr())));
  }
  std::shared_ptr<torch::nn::Module> own_child(const std::optional<torch::Device>& device,
                                               const std::shared_ptr<torch::nn::Module>& child);

  std::vector<std::pair<std::string, torch::Tensor>> non_persistent_buffers_;
};

/// Base class that gives a module class its `clone()`, as `torch::nn::Cloneable` does for LibTorch's modules.
/// `Derived::members()` lists the fields that hold tensors and submodules:
///
///     class MLPImpl : public Cloneable<MLPImpl> {
///      public:
///       auto members() { return std::tie(up_proj, down_proj); }
template <typename Derived, typename Base = Module>
class Cloneable : public Base {  // NOLINT(bugprone-crtp-constructor-accessibility): constructors are the base's
 public:
  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>& device = std::nullopt) const override {
    auto copy = std::make_shared<Derived>(static_cast<const Derived&>(*this));
    std::apply([&](auto&... members) { copy->own(device, members...); }, copy->members());
    return copy;
  }

 protected:
  using Base::Base;
};

/// For module classes whose new parameters do not have the usual values (1 and 0 in norms, 0 in biases, random numbers
/// elsewhere), such as a norm that stores its weight minus one. A model asks its modules when it is built, and for
/// weights that a checkpoint lacks.
class OwnInitialValues {
 public:
  virtual ~OwnInitialValues() = default;
  /// Sets `tensor`, which is the parameter `name` of this module itself.
  virtual void init_parameter(const std::string& name, torch::Tensor tensor) = 0;
};

/// `torch::nn::ModuleHolder` whose call operator runs the module's forward hooks. Hooks do not see outputs for which
/// there is no overload of `hooked_tensor`.
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
