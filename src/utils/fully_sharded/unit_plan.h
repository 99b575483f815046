#pragma once

#include <transformers/utils/nn/forward_hooks.h>

#include <map>

#include "utils/fully_sharded/sharded_unit.h"

namespace transformers {

/// A module whose parameters become a unit.
struct PlannedUnit {
  std::string name{};
  ForwardHooks* hooks = nullptr;  // of the module that is the unit; null for the root
  std::vector<NamedParameter> parameters{};
};

/// Assigns each parameter to the innermost unit that contains it; a parameter that several units share, such as tied
/// embeddings, belongs to the root. Units are in the order of the module, with those of the root last, one for each
/// dtype. Throws on parameters that cannot be sharded, and on options that the module does not fit.
std::vector<PlannedUnit> plan_units(torch::nn::Module& module, const FullyShardedOptions& options);

/// All parameters except the ignored ones, each once under its first name.
std::vector<NamedParameter> sharded_parameters_of(const torch::nn::Module& module, const FullyShardedOptions& options);

/// Whether a parameter or buffer of that name is ignored.
bool is_ignored(const std::string& name, const FullyShardedOptions& options);

}  // namespace transformers
