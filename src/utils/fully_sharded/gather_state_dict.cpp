// The unsharded state dict and `save_pretrained` of a fully sharded model. Units are gathered one after the other, so
// that beyond the result at most one of them is whole at a time.
#include <ATen/ATen.h>
#include <transformers/utils/distributed/together.h>
#include <transformers/utils/files/save_transaction.h>
#include <transformers/utils/fully_sharded/sharded_state.h>
#include <transformers/utils/io/checkpoint.h>
#include <transformers/utils/modeling/pretrained_model.h>

#include <unordered_map>

#include "utils/fully_sharded/fully_sharded_state.h"

namespace transformers {
namespace {

using Tensors = torch::OrderedDict<std::string, at::Tensor>;

std::unordered_map<const void*, ShardedParameter> by_tensor(const FullyShardedModule& model) {
  std::unordered_map<const void*, ShardedParameter> found;
  for (const auto& own : model.sharded_parameters()) {
    found.emplace(own.parameter.unsafeGetTensorImpl(), own);
  }
  return found;
}

/// The entries of the state dict that no unit holds: buffers, and parameters that are ignored.
Tensors outside_units(const FullyShardedModule& model) {
  const auto sharded = by_tensor(model);
  const auto parameters = model.root().named_parameters();
  Tensors outside;
  for (const auto& entry : state_dict(model.root())) {
    const auto* parameter = parameters.find(entry.key());
    if (parameter == nullptr || !sharded.contains(parameter->unsafeGetTensorImpl())) {
      outside.insert(entry.key(), entry.value());
    }
  }
  return outside;
}

/// The tensors of one file, which all belong to one unit; `unit` is the number of units for tensors outside of all
/// units.
struct PlannedFile {
  size_t unit = 0;
  std::vector<std::string> names{};
};

int64_t whole_bytes(const ShardedParameter& parameter) {
  return c10::multiply_integers(parameter.sizes) * parameter.parameter.element_size();
}

std::vector<PlannedFile> plan_files(const FullyShardedModule& model, int64_t max_bytes) {
  std::vector<PlannedFile> files;
  const auto& units = model.state().units;
  for (size_t unit = 0; unit < units.size(); ++unit) {
    int64_t bytes = max_bytes + 1;
    for (const auto& parameter : units[unit]->parameters()) {
      bytes += whole_bytes(parameter);
      if (bytes > max_bytes) {
        files.push_back({.unit = unit, .names = {}});
        bytes = whole_bytes(parameter);
      }
      files.back().names.push_back(parameter.name);
    }
  }
  if (const auto outside = outside_units(model); !outside.is_empty()) {
    files.push_back({.unit = units.size(), .names = outside.keys()});
  }
  return files;
}

/// Gathers units one after the other, and holds the tensors of the last one.
class UnitGatherer {
 public:
  explicit UnitGatherer(const FullyShardedModule& model) : model_(model) {}

  Tensors tensors(const PlannedFile& file) {
    if (file.unit == model_.state().units.size()) {
      return outside_units(model_);
    }
    while (gathered_ <= file.unit) {
      gather_next();
    }
    Tensors tensors;
    for (const auto& name : file.names) {
      tensors.insert(name, wholes_.at(name));
    }
    return tensors;
  }

  /// Gathers the remaining units, so that other ranks do not wait.
  void finish() {
    while (gathered_ < model_.state().units.size()) {
      gather_next();
    }
    wholes_.clear();
  }

 private:
  void gather_next() {
    wholes_.clear();
    const auto& unit = *model_.state().units[gathered_++];
    const auto wholes = unit.gathered();
    const auto parameters = unit.parameters();
    for (size_t i = 0; i < wholes.size(); ++i) {
      wholes_.emplace(parameters[i].name, wholes[i]);
    }
  }

  const FullyShardedModule& model_;
  size_t gathered_ = 0;
  std::unordered_map<std::string, at::Tensor> wholes_;
};

void write_folder(const FullyShardedModule& model, UnitGatherer& gatherer, const std::string& folder,
                  const SaveOptions& options) {
  auto* pretrained = dynamic_cast<PreTrainedModel*>(&model.root());
  TORCH_CHECK(pretrained != nullptr, "save_pretrained needs a PreTrainedModel, found ", model.root().name());
  SaveTransaction save(folder);
  pretrained->save_pretrained(save, options, [&] {
    const auto files = plan_files(model, options.max_shard_size);
    add_checkpoint_files(save, files.size(), [&](size_t i) { return gatherer.tensors(files[i]); });
  });
  save.commit();
}

}  // namespace

StateDict gather_state_dict(const FullyShardedModule& model, std::optional<int64_t> dst) {
  const auto& group = model.group();
  TORCH_CHECK(!dst || (*dst >= 0 && *dst < group.size()), "gather_state_dict: dst must be in [0, ", group.size(),
              "), got ", dst.value_or(0));
  model.state().settle();
  const bool keeps = !dst || *dst == group.rank();
  std::unordered_map<const void*, at::Tensor> wholes;
  for (const auto& unit : model.state().units) {
    const auto gathered = unit->gathered();
    const auto parameters = unit->parameters();
    for (size_t i = 0; keeps && i < gathered.size(); ++i) {
      wholes.emplace(parameters[i].parameter.unsafeGetTensorImpl(), gathered[i].to(at::kCPU));
    }
  }
  StateDict state;
  const auto parameters = model.root().named_parameters();
  for (const auto& entry : keeps ? state_dict(model.root()) : StateDict()) {
    const auto* parameter = parameters.find(entry.key());
    const auto whole = parameter == nullptr ? wholes.end() : wholes.find(parameter->unsafeGetTensorImpl());
    state.insert(entry.key(), whole == wholes.end() ? entry.value().to(at::kCPU) : whole->second);
  }
  return state;
}

void load_state_dict(FullyShardedModule& model, const StateDict& state) {
  model.state().settle();
  const auto sharded = by_tensor(model);
  const auto parameters = model.root().named_parameters();
  StateDict rows;
  IncompatibleKeys keys;
  for (const auto& entry : state) {
    const auto* parameter = parameters.find(entry.key());
    const auto own = parameter == nullptr ? sharded.end() : sharded.find(parameter->unsafeGetTensorImpl());
    if (own == sharded.end()) {
      rows.insert(entry.key(), entry.value());
    } else if (entry.value().sizes() != own->second.sizes) {
      keys.mismatched.push_back({entry.key(), entry.value().sizes().vec(), own->second.sizes});
    } else {
      rows.insert(entry.key(), entry.value().narrow(0, own->second.start, parameter->size(0)));
    }
  }
  TORCH_CHECK(keys.empty(), "load_state_dict: the tensors do not fit the module; ", keys.to_string());
  load_state_dict(model.root(), rows);
}

void save_pretrained(const FullyShardedModule& model, const std::string& folder, const SaveOptions& options) {
  model.state().settle();
  UnitGatherer gatherer(model);
  std::exception_ptr failure;
  if (model.group().rank() == 0) {
    try {
      write_folder(model, gatherer, folder, options);
    } catch (...) {
      failure = std::current_exception();
    }
  }
  gatherer.finish();
  together(model.group(), [&] { failure ? std::rethrow_exception(failure) : void(); });
}

}  // namespace transformers
