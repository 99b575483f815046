// Mirrors the loading rules of modeling_utils.py, transformers 5.23.0. Deviation: a missing weight of the base model is
// an error where HF initialises it with a warning.
#include <ATen/ATen.h>
#include <transformers/utils/io/checkpoint.h>
#include <transformers/utils/modeling/base_model.h>
#include <transformers/utils/modeling/load_weights.h>
#include <transformers/utils/nn/device.h>

#include <algorithm>
#include <array>
#include <map>
#include <unordered_set>

#include "utils/modeling/init_parameter.h"
#include "utils/placement/internal/placement.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

// Buffers that old checkpoints contain and that a model computes itself.
constexpr std::array<std::string_view, 5> kLegacyBuffers{".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq",
                                                         "embed_positions", "position_ids"};
constexpr std::array<std::string_view, 2> kBasePrefixes{"model.", "transformer."};

bool is_legacy_buffer(const std::string& name) {
  return std::ranges::any_of(kLegacyBuffers, [&](std::string_view suffix) { return name.ends_with(suffix); });
}

/// A model's tensors by name, tied ones under each of their names, and the modules that hold them.
struct Slot {
  torch::nn::Module* module;
  std::string parameter;  // name within the module
  at::Tensor tensor;
};
using Slots = std::map<std::string, Slot>;

Slots slots_of(PreTrainedModel& model) {
  Slots slots;
  for (const auto& part : model.named_modules("", /*include_self=*/true)) {
    const std::string prefix = part.key().empty() ? "" : part.key() + ".";
    const auto add = [&](const auto& entries) {
      for (const auto& entry : entries) {
        slots[prefix + entry.key()] = {part.value().get(), entry.key(), entry.value()};
      }
    };
    add(part.value()->named_parameters(/*recurse=*/false));
    add(part.value()->named_buffers(/*recurse=*/false));
  }
  return slots;
}

/// The model's name for a tensor of the file: the same name, or one with the base model's prefix added, removed or
/// exchanged.
std::string own_name(const std::string& name, const Slots& slots, const std::string& prefix) {
  std::string bare = name;
  for (const auto known : kBasePrefixes) {
    if (name.starts_with(known)) {
      bare = name.substr(known.size());
      break;
    }
  }
  const auto prefixed = prefix.empty() ? bare : prefix + "." + bare;
  for (const auto& candidate : {name, prefixed}) {
    if (slots.contains(candidate)) {
      return candidate;
    }
  }
  return name;
}

/// The reason why a stored tensor cannot be a weight; empty if it can. Formats that store a weight as codes and scales
/// use two tensors whose names begin alike.
std::string unreadable(const CheckpointTensor& tensor, const std::unordered_set<std::string>& names) {
  const auto where = printable(tensor.file) + ": tensor " + printable(tensor.name) + ": ";
  if (!c10::isFloatingType(tensor.dtype)) {
    return where + "expected a floating-point weight, found " + c10::toString(tensor.dtype);
  }
  if (at::elementSize(tensor.dtype) > 1) {
    return {};
  }
  const auto module = tensor.name.substr(0, tensor.name.rfind('.') + 1);
  for (const auto& scale : {tensor.name + "_scale_inv", tensor.name + "_scale", tensor.name + "_scales",
                            module + "scale", module + "scales", module + "scale_inv"}) {
    if (names.contains(scale)) {
      return where + "expected a weight, found 8-bit codes whose scales lie beside them in " + printable(scale);
    }
  }
  return {};
}

std::unordered_set<std::string> names_of(const Checkpoint& checkpoint) {
  std::unordered_set<std::string> names;
  for (const auto& tensor : checkpoint.tensors()) {
    names.insert(tensor.name);
  }
  return names;
}

struct Plan {
  std::map<std::string, std::string> file_names;  // by the model's name
  LoadReport report;
};

Plan match(const Checkpoint& checkpoint, const Slots& slots, const std::string& prefix) {
  Plan plan;
  std::unordered_set<const void*> found;
  const auto stored_names = names_of(checkpoint);
  for (const auto& tensor : checkpoint.tensors()) {
    const auto name = own_name(tensor.name, slots, prefix);
    const auto slot = slots.find(name);
    if (slot == slots.end()) {
      (is_legacy_buffer(name) ? plan.report.ignored : plan.report.unexpected).push_back(tensor.name);
      continue;
    }
    found.insert(slot->second.tensor.unsafeGetTensorImpl());
    if (auto reason = unreadable(tensor, stored_names); !reason.empty()) {
      plan.report.unreadable.push_back(std::move(reason));
    }
    if (slot->second.tensor.sizes() != tensor.shape) {
      plan.report.mismatched.push_back({name, tensor.shape, slot->second.tensor.sizes().vec()});
    } else {
      plan.file_names[name] = tensor.name;
    }
  }
  for (const auto& name : checkpoint.unlisted()) {
    plan.report.unexpected.push_back(name);
  }
  for (const auto& [name, slot] : slots) {
    if (!found.contains(slot.tensor.unsafeGetTensorImpl())) {
      plan.report.missing.push_back(name);
    }
  }
  return plan;
}

}  // namespace

LoadReport match_weights(PreTrainedModel& model, const Checkpoint& checkpoint) {
  return match(checkpoint, slots_of(model), model.base_model_prefix()).report;
}

void check_fit(const LoadReport& report, const PreTrainedModel& model, const std::string& folder,
               bool ignore_mismatched_sizes) {
  TORCH_CHECK(report.unreadable.empty(), folder, ": ", report.unreadable.front(),
              report.unreadable.size() > 1 ? " (and " + std::to_string(report.unreadable.size() - 1) + " more)" : "");
  IncompatibleKeys fatal;
  const auto prefix = model.base_model_prefix();
  for (const auto& name : report.missing) {
    if (prefix.empty() || name.starts_with(prefix + ".")) {
      fatal.missing.push_back(name);
    }
  }
  if (!ignore_mismatched_sizes) {
    fatal.mismatched = report.mismatched;
  }
  if (!fatal.empty()) {
    fatal.unexpected = printable_names(report.unexpected);
  }
  TORCH_CHECK(fatal.empty(), printable(folder), ": the weights do not fit ", model.architecture(), "; ",
              fatal.to_string());
}

namespace {

c10::ScalarType target_dtype(const PreTrainedModel& model, const Checkpoint& checkpoint, const LoadOptions& options) {
  if (options.dtype || model.config().dtype) {
    return options.dtype ? *options.dtype : *model.config().dtype;
  }
  for (const auto& tensor : checkpoint.tensors()) {
    if (c10::isFloatingType(tensor.dtype)) {
      return tensor.dtype;
    }
  }
  return c10::kFloat;
}

/// Returns one tensor in the wanted dtype and place. If this made a copy, the pages of the file are released.
at::Tensor read(const Checkpoint& checkpoint, const std::string& name, c10::ScalarType dtype, c10::Device device) {
  const auto stored = checkpoint.tensor(name);
  const auto wanted = stored.to(device, stored.is_floating_point() ? dtype : stored.scalar_type());
  if (!wanted.is_same(stored)) {
    checkpoint.drop_pages(name);
  }
  return wanted;
}

/// Tied names share one slot, and the file may hold either name. If it holds both and their values differ, the tie is
/// removed.
void untie_if_different(PreTrainedModel& model, const Checkpoint& checkpoint, const Plan& plan, Slots& slots) {
  auto output = model.get_output_embeddings();
  if (!output || !output->weight.is_same(model.get_input_embeddings()->weight)) {
    return;
  }
  std::vector<std::string> names;
  for (const auto& [name, file_name] : plan.file_names) {
    if (slots.at(name).tensor.is_same(output->weight)) {
      names.push_back(file_name);
    }
  }
  if (names.size() < 2 || checkpoint.tensor(names[0]).equal(checkpoint.tensor(names[1]))) {
    return;
  }
  TORCH_WARN("the config ties ", printable(names[0]), " and ", printable(names[1]),
             " but the file holds different values; they are not tied");
  output->tie_weight(at::empty_like(output->weight).requires_grad_());
  slots = slots_of(model);
}

DeviceMap map_asked_for(PreTrainedModel& model, const LoadOptions& options, c10::ScalarType dtype) {
  const auto& wanted = options.device_map;
  if (const auto* map = wanted.map()) {
    return *map;
  }
  if (const auto* map_of_model = wanted.map_of_model()) {
    return (*map_of_model)(model);
  }
  if (const auto* strategy = wanted.strategy()) {
    return infer_auto_device_map(module_sizes(model, dtype), *strategy, options.max_memory, model.no_split_modules(),
                                 find_tied_parameters(model));
  }
  return {{"", options.device}};
}

/// Throws if a weight is to remain on the disk in a file that cannot be read tensor by tensor.
void check_disk_files(const Checkpoint& checkpoint, const Plan& plan, const Slots& slots, const Placement& placement,
                      const std::string& folder) {
  std::map<std::string, const CheckpointTensor*> stored;
  for (const auto& tensor : checkpoint.tensors()) {
    stored[tensor.name] = &tensor;
  }
  for (const auto& [name, file_name] : plan.file_names) {
    const auto& tensor = *stored.at(file_name);
    TORCH_CHECK(!placement.place_of(slots.at(name).tensor).is_disk() || tensor.file.ends_with(".safetensors"),
                printable(folder), ": ", printable(tensor.name),
                " is to stay on the disk, which takes a safetensors file, not ", printable(tensor.file));
  }
}

/// How to get the values of an offloaded tensor: from the file each time, or from the CPU's memory.
OffloadedTensor offloaded(const std::shared_ptr<const Checkpoint>& checkpoint, const std::string& name,
                          c10::ScalarType dtype, bool on_disk) {
  if (!on_disk) {
    return {.read = [values = read(*checkpoint, name, dtype, c10::kCPU)] { return values; }, .release = [] {}};
  }
  return {.read = [=] { return read(*checkpoint, name, dtype, c10::kCPU); },
          .release = [=] { checkpoint->drop_pages(name); }};
}

/// Fills a tensor, or records how it is filled when its layer runs.
void fill(at::Tensor& tensor, const std::shared_ptr<const Checkpoint>& checkpoint, const std::string& name,
          c10::ScalarType dtype, Placement& placement) {
  const auto place = placement.place_of(tensor);
  if (!place.is_meta() && !placement.is_offloaded(place)) {
    assign_tensor(tensor, read(*checkpoint, name, dtype, place.device()));
    return;
  }
  assign_tensor(tensor, at::empty(tensor.sizes(), at::TensorOptions().dtype(dtype).device(c10::kMeta)));
  if (!place.is_meta()) {
    tensor.requires_grad_(false);
    placement.offloaded[tensor.unsafeGetTensorImpl()] = offloaded(checkpoint, name, dtype, place.is_disk());
  }
}

/// Allocates and initializes the tensors that the file did not fill. They are kept in memory, because the file has no
/// values to read them from again.
void initialize(PreTrainedModel& model, Slots& slots, Plan& plan, c10::ScalarType dtype, const Placement& placement) {
  std::unordered_set<const void*> done;
  for (const auto& [name, file_name] : plan.file_names) {
    done.insert(slots.at(name).tensor.unsafeGetTensorImpl());
  }
  for (auto& [name, slot] : slots) {
    const auto device = placement.runs_on(slot.tensor);
    if (!done.insert(slot.tensor.unsafeGetTensorImpl()).second || !device) {
      continue;
    }
    assign_tensor(slot.tensor, at::empty(slot.tensor.sizes(), at::TensorOptions().dtype(dtype).device(*device)));
    init_parameter(*slot.module, slot.parameter, slot.tensor, model.config().initializer_range);
    plan.report.initialized.push_back(name);
  }
}

void warn(const LoadReport& report, const std::string& folder) {
  if (!report.unexpected.empty()) {
    TORCH_WARN(printable(folder), ": weights that the model does not use: ", printable_list(report.unexpected));
  }
  if (!report.initialized.empty()) {
    TORCH_WARN(printable(folder),
               ": weights missing from the checkpoint were newly initialized: ", printable_list(report.initialized));
  }
}

}  // namespace

std::shared_ptr<const Checkpoint> open_checkpoint(const ModelFolder& folder, const PretrainedConfig& config,
                                                  const LoadOptions& options) {
  require_device(options.device);
  auto checkpoint = std::make_shared<const Checkpoint>(folder, options.variant);
  const auto tensors = static_cast<int64_t>(checkpoint->tensors().size());
  TORCH_CHECK(config.get_num_hidden_layers() <= tensors, printable(config_path(folder.path())), ": ",
              config.get_num_hidden_layers(), " layers cannot be filled from ", tensors, " tensors");
  // Tables of rotary frequencies are as long as a head and are not in any file. Their size is accepted only if the file
  // has a tensor with at least that many values.
  int64_t largest = 0;
  for (const auto& tensor : checkpoint->tensors()) {
    largest = std::max(largest, c10::multiply_integers(tensor.shape));
  }
  TORCH_CHECK(config.sizes().head_dim <= largest, printable(config_path(folder.path())), ": heads of ",
              config.sizes().head_dim, " cannot be filled, the largest tensor has ", largest, " values");
  return checkpoint;
}

LoadReport load_weights(PreTrainedModel& model, const std::shared_ptr<const Checkpoint>& checkpoint,
                        const ModelFolder& folder, const LoadOptions& options) {
  const at::NoGradGuard no_grad;
  auto slots = slots_of(model);
  auto plan = match(*checkpoint, slots, model.base_model_prefix());
  check_fit(plan.report, model, folder.path(), options.ignore_mismatched_sizes);
  untie_if_different(model, *checkpoint, plan, slots);
  const auto dtype = target_dtype(model, *checkpoint, options);
  const auto blocks = model.base_model().structure().blocks();
  auto placement = plan_placement(model, blocks, map_asked_for(model, options, dtype));
  check_disk_files(*checkpoint, plan, slots, placement, folder.path());
  for (const auto& [name, file_name] : plan.file_names) {
    fill(slots.at(name).tensor, checkpoint, file_name, dtype, placement);
  }
  initialize(model, slots, plan, dtype, placement);
  if (!options.device_map.empty()) {
    model.set_placement(std::make_shared<const Placement>(std::move(placement)));
  } else if (options.device != c10::kCPU) {
    model.to(options.device);
  }
  model.config().dtype = dtype;
  model.read_generation_config(folder);
  model.eval();
  warn(plan.report, folder.path());
  return plan.report;
}

}  // namespace transformers
