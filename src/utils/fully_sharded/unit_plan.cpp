#include "utils/fully_sharded/unit_plan.h"

#include <transformers/utils/modeling/base_model.h>

#include <algorithm>
#include <unordered_set>

namespace transformers {
namespace {

using Policy = std::function<bool(const std::string&, const torch::nn::Module&)>;

bool lies_in(const std::string& name, const std::string& module) {
  return module.empty() || name == module || name.starts_with(module + ".");
}

/// The decoder layers of every PreTrainedModel in the module; empty for other modules.
Policy layers_of(torch::nn::Module& module) {
  std::unordered_set<const torch::nn::Module*> blocks;
  for (const auto& part : module.modules()) {
    if (auto* model = dynamic_cast<PreTrainedModel*>(part.get())) {
      for (const auto& layer : model->structure().layers) {
        blocks.insert(layer.block.get());
      }
    }
  }
  return [blocks](const std::string&, const torch::nn::Module& part) { return blocks.contains(&part); };
}

/// The modules that become units, outer ones before those inside them.
std::vector<PlannedUnit> modules_to_wrap(torch::nn::Module& module, const FullyShardedOptions& options) {
  const auto policy = options.auto_wrap_policy ? options.auto_wrap_policy : layers_of(module);
  std::vector<PlannedUnit> units;
  for (const auto& part : module.named_modules("", /*include_self=*/false)) {
    if (!policy(part.key(), *part.value())) {
      continue;
    }
    auto* hooks = dynamic_cast<ForwardHooks*>(part.value().get());
    TORCH_CHECK(hooks != nullptr, "FullyShardedDataParallel: ", part.key(), " (", part.value()->name(),
                ") cannot be a unit: it runs no forward hooks");
    units.push_back({.name = part.key(), .hooks = hooks});
  }
  return units;
}

/// The index of the innermost unit that a parameter lies in; that of the root, which is last, when it lies in none.
size_t owner_of(const std::string& name, const std::vector<PlannedUnit>& units) {
  auto owner = units.size() - 1;
  size_t longest = 0;
  for (size_t i = 0; i + 1 < units.size(); ++i) {
    if (lies_in(name, units[i].name) && units[i].name.size() > longest) {
      owner = i;
      longest = units[i].name.size();
    }
  }
  return owner;
}

void check_parameter(const NamedParameter& named, c10::Device device) {
  const auto& [name, parameter] = named;
  TORCH_CHECK(parameter.dim() > 0, "FullyShardedDataParallel cannot split the scalar ", name, "; ignore it");
  TORCH_CHECK(parameter.layout() == at::kStrided, "FullyShardedDataParallel needs dense parameters, ", name, " is ",
              parameter.layout());
  TORCH_CHECK(parameter.is_meta() || parameter.device() == device, "FullyShardedDataParallel needs all parameters on ",
              device, ", ", name, " is on ", parameter.device());
}

/// A unit communicates in one dtype.
std::vector<PlannedUnit> split_by_dtype(const PlannedUnit& unit) {
  std::vector<PlannedUnit> parts;
  for (const auto& named : unit.parameters) {
    const auto same_dtype = [&](const PlannedUnit& part) {
      return part.parameters.front().parameter.scalar_type() == named.parameter.scalar_type();
    };
    auto part = std::find_if(parts.begin(), parts.end(), same_dtype);
    if (part == parts.end()) {
      part = parts.insert(parts.end(), {.name = unit.name, .hooks = unit.hooks});
    }
    part->parameters.push_back(named);
  }
  return parts;
}

void check_floating(const char* field, std::optional<c10::ScalarType> dtype) {
  TORCH_CHECK(!dtype || c10::isFloatingType(*dtype), "MixedPrecision: ", field, " must be a floating type, got ",
              *dtype);
}

void check_names(const char* field, const std::set<std::string>& names, const std::set<std::string>& known) {
  for (const auto& name : names) {
    TORCH_CHECK(known.contains(name), field, " names '", name, "', which the module does not have");
  }
}

void check_options(const FullyShardedOptions& options, const torch::nn::Module& module) {
  check_floating("param_dtype", options.mixed_precision.param_dtype);
  check_floating("reduce_dtype", options.mixed_precision.reduce_dtype);
  check_floating("buffer_dtype", options.mixed_precision.buffer_dtype);
  const auto modules = module.named_modules("", /*include_self=*/false).keys();
  const auto parameters = module.named_parameters().keys();
  check_names("ignored_modules", options.ignored_modules, {modules.begin(), modules.end()});
  check_names("ignored_parameters", options.ignored_parameters, {parameters.begin(), parameters.end()});
}

}  // namespace

bool is_ignored(const std::string& name, const FullyShardedOptions& options) {
  const auto inside = [&](const std::string& module) { return lies_in(name, module); };
  return options.ignored_parameters.contains(name) ||
         std::any_of(options.ignored_modules.begin(), options.ignored_modules.end(), inside);
}

std::vector<NamedParameter> sharded_parameters_of(const torch::nn::Module& module, const FullyShardedOptions& options) {
  std::unordered_set<const void*> seen;
  std::vector<NamedParameter> parameters;
  for (const auto& item : module.named_parameters()) {
    if (!is_ignored(item.key(), options) && item.value().numel() > 0 &&
        seen.insert(item.value().unsafeGetTensorImpl()).second) {
      parameters.push_back({item.key(), item.value()});
    }
  }
  return parameters;
}

std::vector<PlannedUnit> plan_units(torch::nn::Module& module, const FullyShardedOptions& options) {
  check_options(options, module);
  auto units = modules_to_wrap(module, options);
  units.emplace_back();
  std::map<const void*, size_t> owners;
  for (const auto& item : module.named_parameters()) {
    const auto owner = owner_of(item.key(), units);
    const auto [known, is_new] = owners.try_emplace(item.value().unsafeGetTensorImpl(), owner);
    if (!is_new && known->second != owner) {
      known->second = units.size() - 1;
    }
  }
  const auto parameters = sharded_parameters_of(module, options);
  TORCH_CHECK(!parameters.empty(), "FullyShardedDataParallel needs a module with parameters to shard");
  for (const auto& named : parameters) {
    check_parameter(named, parameters.front().parameter.is_meta() ? named.parameter.device()
                                                                  : parameters.front().parameter.device());
    units[owners.at(named.parameter.unsafeGetTensorImpl())].parameters.push_back(named);
  }
  std::vector<PlannedUnit> planned;
  for (const auto& unit : units) {
    for (auto& part : split_by_dtype(unit)) {
      planned.push_back(std::move(part));
    }
  }
  return planned;
}

}  // namespace transformers
