// The model's and the optimizer's part of a sharded checkpoint. Optimizer states that have the shape of the rank's rows
// become slices of the parameter's dimension 0; scalars are the same on all ranks.
#include <ATen/ATen.h>
#include <transformers/utils/fully_sharded/sharded_state.h>

#include <charconv>
#include <unordered_map>

#include "utils/fully_sharded/fully_sharded_state.h"

namespace transformers {
namespace {

constexpr const char* kModel = "model.";
constexpr const char* kOptimizer = "optimizer.";

using Parameters = std::vector<ShardedParameter>;

/// The parameters of a module in one process, each as its only slice.
Parameters whole_parameters(const torch::nn::Module& module) {
  Parameters parameters;
  std::unordered_map<const void*, bool> seen;
  for (const auto& item : module.named_parameters()) {
    if (seen.try_emplace(item.value().unsafeGetTensorImpl()).second) {
      parameters.push_back({item.key(), item.value(), item.value().sizes().vec(), 0});
    }
  }
  return parameters;
}

/// The parameters of a sharded module; ignored ones are unsharded.
Parameters parameters_of(const FullyShardedModule& model) {
  auto parameters = model.sharded_parameters();
  std::unordered_map<const void*, bool> sharded;
  for (const auto& own : parameters) {
    sharded.emplace(own.parameter.unsafeGetTensorImpl(), true);
  }
  for (const auto& own : whole_parameters(model.root())) {
    if (!sharded.contains(own.parameter.unsafeGetTensorImpl())) {
      parameters.push_back(own);
    }
  }
  return parameters;
}

ShardedState model_state(const torch::nn::Module& module, const Parameters& parameters) {
  ShardedState state;
  for (const auto& own : parameters) {
    state[kModel + own.name] = {.local = own.parameter.detach(), .sizes = own.sizes, .start = own.start};
  }
  for (const auto& item : module.named_buffers()) {
    state[kModel + item.key()] = whole_tensor(item.value());
  }
  return state;
}

/// The parameters of the module that the optimizer holds, in the optimizer's order.
Parameters in_order_of(const torch::optim::Optimizer& optimizer, const Parameters& parameters) {
  std::unordered_map<const void*, const ShardedParameter*> known;
  for (const auto& own : parameters) {
    known.emplace(own.parameter.unsafeGetTensorImpl(), &own);
  }
  Parameters ordered;
  for (const auto& group : optimizer.param_groups()) {
    for (const auto& parameter : group.params()) {
      const auto own = known.find(parameter.unsafeGetTensorImpl());
      TORCH_CHECK(own != known.end(), "the optimizer's parameter ", ordered.size(), " of shape ", parameter.sizes(),
                  " is none of the model's");
      ordered.push_back(*own->second);
    }
  }
  return ordered;
}

/// "12.exp_avg" → 12, "exp_avg".
std::pair<size_t, std::string> split_key(const std::string& key, size_t count) {
  const auto dot = key.find('.');
  size_t index = 0;
  const auto* end = key.data() + std::min(dot, key.size());
  const auto [last, error] = std::from_chars(key.data(), end, index);
  TORCH_CHECK(dot != std::string::npos && error == std::errc() && last == end && index < count, "optimizer state \"",
              key, "\" must name one of ", count, " parameters by its index");
  return {index, key.substr(dot + 1)};
}

ShardedTensor spread(const std::string& name, const at::Tensor& tensor, const ShardedParameter& own) {
  if (tensor.dim() == 0) {
    return whole_tensor(tensor);
  }
  TORCH_CHECK(tensor.sizes() == own.parameter.sizes(), "optimizer state ", name, " of shape ", tensor.sizes(),
              " cannot be spread as its parameter ", own.parameter.sizes(), " is");
  return {.local = tensor, .sizes = own.sizes, .start = own.start};
}

ShardedState state_of(const torch::optim::Optimizer& optimizer, const StateDict& state, const Parameters& parameters) {
  const auto ordered = in_order_of(optimizer, parameters);
  ShardedState result;
  for (const auto& item : state) {
    const auto [index, name] = split_key(item.key(), ordered.size());
    const auto& own = ordered[index];
    const auto full_name = kOptimizer + own.name + "." + name;
    result[full_name] = spread(full_name, item.value(), own);
  }
  return result;
}

StateDict read_state(const ShardedCheckpoint& checkpoint, const torch::optim::Optimizer& optimizer,
                     const Parameters& parameters) {
  const auto ordered = in_order_of(optimizer, parameters);
  const auto names = checkpoint.names();
  StateDict state;
  for (size_t i = 0; i < ordered.size(); ++i) {
    const auto& own = ordered[i];
    const auto prefix = kOptimizer + own.name + ".";
    for (const auto& name : names) {
      const auto rest = name.starts_with(prefix) ? name.substr(prefix.size()) : "";
      if (rest.empty() || rest.find('.') != std::string::npos) {
        continue;
      }
      const auto& sizes = checkpoint.sizes(name);
      TORCH_CHECK(sizes.empty() || sizes == own.sizes, checkpoint.folder(), ": ", name, " is ", c10::IntArrayRef(sizes),
                  ", expected ", c10::IntArrayRef(own.sizes));
      state.insert(std::to_string(i) + "." + rest, sizes.empty()
                                                       ? checkpoint.tensor(name)
                                                       : checkpoint.slice(name, 0, own.start, own.parameter.size(0)));
    }
  }
  return state;
}

}  // namespace

ShardedState checkpoint_state(const FullyShardedModule& model) {
  model.state().settle();
  return model_state(model.root(), parameters_of(model));
}

ShardedState checkpoint_state(const torch::nn::Module& module) { return model_state(module, whole_parameters(module)); }

ShardedState checkpoint_state(const FullyShardedModule& model, const torch::optim::Optimizer& optimizer,
                              const StateDict& state) {
  model.state().settle();
  return state_of(optimizer, state, parameters_of(model));
}

ShardedState checkpoint_state(const torch::nn::Module& module, const torch::optim::Optimizer& optimizer,
                              const StateDict& state) {
  return state_of(optimizer, state, whole_parameters(module));
}

StateDict optimizer_state(const ShardedCheckpoint& checkpoint, const FullyShardedModule& model,
                          const torch::optim::Optimizer& optimizer) {
  model.state().settle();
  return read_state(checkpoint, optimizer, parameters_of(model));
}

StateDict optimizer_state(const ShardedCheckpoint& checkpoint, const torch::nn::Module& module,
                          const torch::optim::Optimizer& optimizer) {
  return read_state(checkpoint, optimizer, whole_parameters(module));
}

}  // namespace transformers
