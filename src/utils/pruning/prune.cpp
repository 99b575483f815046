// Mirrors torch/nn/utils/prune.py, torch 2.11.0. Deviations: docs/pruning.md.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ones_like.h>
#include <c10/util/Exception.h>
#include <transformers/utils/pruning/parametrization.h>
#include <transformers/utils/pruning/prune.h>

#include <algorithm>

#include "utils/pruning/module_buffers.h"

namespace transformers::prune {
namespace {

namespace nn = torch::nn;

std::string mask_name(const std::string& name) { return name + "_mask"; }

std::string names_of(const nn::Module& module) {
  std::string names;
  for (const auto& parameter : module.named_parameters(/*recurse=*/false)) {
    names += (names.empty() ? "" : ", ") + parameter.key();
  }
  return names;
}

at::Tensor parameter_of(const nn::Module& module, const std::string& name) {
  const auto parameters = module.named_parameters(/*recurse=*/false);
  const auto* parameter = parameters.find(name);
  TORCH_CHECK(parameter != nullptr, module.name(), " has no parameter '", name,
              "' of its own, it has: ", names_of(module));
  return *parameter;
}

/// The buffer with a parameter's mask; undefined when it is not pruned.
at::Tensor buffer_of(const nn::Module& module, const std::string& name) {
  const auto buffers = module.named_buffers(/*recurse=*/false);
  const auto* buffer = buffers.find(mask_name(name));
  return buffer != nullptr ? *buffer : at::Tensor();
}

/// A parameter and its mask so far.
struct Target {
  nn::Module* module;
  std::string name;
  at::Tensor parameter;
  at::Tensor mask;
};

Target target_of(nn::Module& module, const std::string& name) {
  auto parameter = parameter_of(module, name);
  TORCH_CHECK(parameter.is_floating_point(), "only floating parameters can be pruned, '", name, "' is ",
              parameter.scalar_type());
  auto mask = buffer_of(module, name);
  TORCH_CHECK(mask.defined() || !ParameterMask::on(parameter), "parameter '", name, "' of ", module.name(),
              " is masked by something else");
  TORCH_CHECK(!mask.defined() || mask.sizes() == parameter.sizes(), "buffer '", mask_name(name), "' of ", module.name(),
              " is no mask of '", name, "'");
  if (!mask.defined()) {
    mask = at::ones_like(parameter.detach(), at::MemoryFormat::Contiguous);
  }
  return {&module, name, std::move(parameter), std::move(mask)};
}

at::Tensor worth_of(const Target& target, const at::Tensor& scores) {
  TORCH_CHECK(!scores.defined() || scores.sizes() == target.parameter.sizes(),
              "importance_scores must have the shape of '", target.name, "', ", target.parameter.sizes(), ", got ",
              scores.defined() ? scores.sizes() : at::IntArrayRef());
  return scores.defined() ? scores.detach().to(target.parameter.device()) : target.parameter.detach();
}

at::Tensor prune_entries(const BasePruningMethod& method, const at::Tensor& t, const at::Tensor& mask) {
  auto flat = mask.flatten().clone();
  const auto left = flat.eq(1).nonzero().flatten();
  const auto part = method.compute_mask(t.flatten().index_select(0, left), flat.index_select(0, left));
  return flat.index_copy_(0, left, part.to(flat.options())).view(mask.sizes());
}

at::Tensor prune_channels(const BasePruningMethod& method, const at::Tensor& t, const at::Tensor& mask) {
  const auto dim = method.dim();
  TORCH_CHECK(t.dim() > 1 && dim >= -t.dim() && dim < t.dim(),
              "channels to prune lie along a dimension of a tensor of "
              "2 or more, got dim ",
              dim, " of shape ", t.sizes());
  const auto left = mask.movedim(dim, 0).flatten(1).any(1).nonzero().flatten();
  const auto part = method.compute_mask(t.index_select(dim, left), mask.index_select(dim, left));
  return mask.clone().index_copy_(dim, left, part.to(mask.options()));
}

/// Mirrors `PruningContainer`: the method chooses among the entries that earlier methods kept.
at::Tensor combined_mask(const BasePruningMethod& method, const at::Tensor& t, const at::Tensor& mask) {
  switch (method.type()) {
    case PruningType::kUnstructured:
      return prune_entries(method, t, mask);
    case PruningType::kStructured:
      return prune_channels(method, t, mask);
    case PruningType::kGlobal:
      return method.compute_mask(t, mask).to(mask.options());
  }
  TORCH_INTERNAL_ASSERT(false, "unknown pruning type");
}

/// Gives a parameter its new mask. The mask is a buffer, which the hook on the parameter shares.
void set_mask(const Target& target, const at::Tensor& mask) {
  auto buffer = buffer_of(*target.module, target.name);
  if (!buffer.defined()) {
    buffer = target.module->register_buffer(mask_name(target.name), target.mask);
  }
  auto attached = ParameterMask::on(target.parameter);
  if (!attached) {
    attached = ParameterMask(target.parameter, buffer);
  }
  attached->set(mask);
}

/// Calls `visit(module, name)` for each pruned parameter of one module.
template <typename Visit>
void for_each_pruned(const nn::Module& module, const Visit& visit) {
  for (const auto& parameter : module.named_parameters(/*recurse=*/false)) {
    const auto mask = buffer_of(module, parameter.key());
    if (mask.defined() && mask.sizes() == parameter.value().sizes()) {
      visit(parameter.key(), parameter.value(), mask);
    }
  }
}

template <typename Visit>
void for_each_pruned_inside(const nn::Module& module, const Visit& visit) {
  for_each_pruned(module, visit);
  for (const auto& child : module.modules(/*include_self=*/false)) {
    for_each_pruned(*child, visit);
  }
}

}  // namespace

void apply(nn::Module& module, const std::string& name, const BasePruningMethod& method,
           const at::Tensor& importance_scores) {
  const at::NoGradGuard no_grad;
  const auto target = target_of(module, name);
  set_mask(target, combined_mask(method, worth_of(target, importance_scores), target.mask));
}

void identity(nn::Module& module, const std::string& name) { apply(module, name, Identity()); }

void random_unstructured(nn::Module& module, const std::string& name, Amount amount) {
  apply(module, name, RandomUnstructured(amount));
}

void l1_unstructured(nn::Module& module, const std::string& name, Amount amount, const at::Tensor& importance_scores) {
  apply(module, name, L1Unstructured(amount), importance_scores);
}

void random_structured(nn::Module& module, const std::string& name, Amount amount, int64_t dim) {
  apply(module, name, RandomStructured(amount, dim));
}

void ln_structured(nn::Module& module, const std::string& name, Amount amount, double n, int64_t dim,
                   const at::Tensor& importance_scores) {
  apply(module, name, LnStructured(amount, n, dim), importance_scores);
}

void custom_from_mask(nn::Module& module, const std::string& name, const at::Tensor& mask) {
  apply(module, name, CustomFromMask(mask));
}

void semi_structured(nn::Module& module, const std::string& name, int64_t kept, int64_t of,
                     const at::Tensor& importance_scores) {
  apply(module, name, SemiStructured(kept, of), importance_scores);
}

void global_unstructured(const Parameters& parameters, const BasePruningMethod& method,
                         const std::vector<at::Tensor>& importance_scores) {
  const at::NoGradGuard no_grad;
  TORCH_CHECK(!parameters.empty(), "global pruning needs parameters to prune");
  TORCH_CHECK(method.type() == PruningType::kUnstructured, "global pruning takes an unstructured method");
  TORCH_CHECK(importance_scores.empty() || importance_scores.size() == parameters.size(),
              "importance_scores must be none or one for each of the ", parameters.size(), " parameters, got ",
              importance_scores.size());
  std::vector<Target> targets;
  std::vector<at::Tensor> worths, masks;
  for (size_t i = 0; i < parameters.size(); ++i) {
    TORCH_CHECK(parameters[i].first != nullptr, "global pruning got no module for '", parameters[i].second, "'");
    targets.push_back(target_of(*parameters[i].first, parameters[i].second));
    worths.push_back(
        worth_of(targets.back(), importance_scores.empty() ? at::Tensor() : importance_scores[i]).flatten());
    masks.push_back(targets.back().mask.flatten());
    const auto same = [&](const Target& other) { return other.parameter.is_same(targets.back().parameter); };
    TORCH_CHECK(std::count_if(targets.begin(), targets.end(), same) == 1, "parameter '", targets.back().name,
                "' was given to global pruning twice");
  }
  const auto mask = combined_mask(method, at::cat(worths), at::cat(masks));
  int64_t begin = 0;
  for (const auto& target : targets) {
    set_mask(target, mask.narrow(0, begin, target.mask.numel()).view(target.mask.sizes()).to(target.mask.options()));
    begin += target.mask.numel();
  }
}

void remove(nn::Module& module, const std::string& name) {
  const auto parameter = parameter_of(module, name);
  const auto mask = buffer_of(module, name);
  TORCH_CHECK(mask.defined(), "parameter '", name, "' of ", module.name(), " is not pruned, nothing to remove");
  auto attached = ParameterMask::on(parameter);
  if (!attached) {
    attached = ParameterMask(parameter, mask);
  }
  attached->remove();
  erase_buffer(module, mask_name(name));
}

bool is_pruned(const nn::Module& module) {
  bool found = false;
  for_each_pruned_inside(module, [&](const auto&...) { found = true; });
  return found;
}

void apply_masks(nn::Module& module) {
  for_each_pruned_inside(module, [](const std::string&, const at::Tensor& parameter, const at::Tensor& mask) {
    if (auto attached = ParameterMask::on(parameter)) {
      attached->apply();
    } else {
      ParameterMask(parameter, mask);
    }
  });
}

}  // namespace transformers::prune
