// Mirrors utils/save_and_load.py, peft 0.21.2. Deviation: a missing or unknown tensor is an error.
#include <ATen/ATen.h>
#include <transformers/utils/files/save_transaction.h>
#include <transformers/utils/io/safetensors.h>
#include <transformers/utils/io/torch_checkpoint.h>
#include <transformers/utils/peft/peft_model.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "utils/files/internal/save_journal.h"
#include "utils/io/internal/safetensors_writer.h"
#include "utils/peft/peft_state.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "base_model.model.";
constexpr const char* kConfigName = "adapter_config.json";
constexpr const char* kWeightsName = "adapter_model.safetensors";

std::unique_ptr<TensorFile> open_weights(const std::string& folder) {
  const auto safetensors = fs::path(folder) / kWeightsName, bin = fs::path(folder) / "adapter_model.bin";
  if (file_exists(safetensors.string())) {
    return std::make_unique<SafetensorsFile>(safetensors.string());
  }
  TORCH_CHECK(file_exists(bin.string()), printable(folder), ": found neither ", kWeightsName, " nor adapter_model.bin");
  return std::make_unique<TorchCheckpointFile>(bin.string());
}

/// The model's name for a key of a base tensor: without the prefix, and without peft's name for an adapted layer.
std::string base_name(std::string key) {
  const std::string wrapped = ".base_layer.";
  if (!key.starts_with(kPrefix)) {
    return {};
  }
  key = key.substr(std::string_view(kPrefix).size());
  const auto at = key.rfind(wrapped);
  return at == std::string::npos ? key : key.substr(0, at + 1) + key.substr(at + wrapped.size());
}

/// Where each tensor of the file belongs. Throws on missing, unknown and mis-shaped tensors.
StateDict destinations(const TensorFile& file, const StateDict& expected, const torch::nn::Module& model) {
  const auto parameters = model.named_parameters();
  StateDict places;
  IncompatibleKeys faults;
  for (const auto& info : file.tensors()) {
    const auto* place = expected.find(info.name);
    place = place == nullptr ? parameters.find(base_name(info.name)) : place;
    if (place == nullptr) {
      faults.unexpected.push_back(printable(info.name));
    } else if (place->sizes() != at::IntArrayRef(info.shape)) {
      faults.mismatched.push_back({info.name, info.shape, place->sizes().vec()});
    } else {
      places.insert(info.name, *place);
    }
  }
  for (const auto& item : expected) {
    const auto& tensors = file.tensors();
    const bool found =
        std::any_of(tensors.begin(), tensors.end(), [&](const auto& info) { return info.name == item.key(); });
    if (!found) {
      faults.missing.push_back(item.key());
    }
  }
  TORCH_CHECK(faults.empty(), printable(file.path()), ": the adapter does not fit the model; ", faults.to_string());
  return places;
}

}  // namespace

StateDict PeftModelImpl::named_tensors(const LoraConfig& config, const Parts& parts) const {
  StateDict tensors;
  const auto insert = [&](const std::string& name, const at::Tensor& tensor) {
    if (tensor.defined()) {
      tensors.insert(kPrefix + name, tensor.detach());
    }
  };
  const bool lora_biases = config.bias != LoraBias::kNone;
  std::set<std::string> adapted;
  for (const auto& [target, weights] : parts.layers) {
    insert(target.name + ".lora_A.weight", weights->lora_A);
    insert(target.name + ".lora_B.weight", weights->lora_B);
    insert(target.name + ".lora_B.bias", weights->lora_B_bias);
    insert(target.name + ".lora_magnitude_vector", weights->lora_magnitude_vector);
    insert(target.name + ".base_layer.bias", lora_biases ? target.linear->bias : at::Tensor());
    adapted.insert(target.name + ".bias");
  }
  const auto parameters = state_->model->named_parameters();
  for (const auto& [name, data] : parts.saved) {
    // If the data is undefined, the model holds it at the moment.
    insert(name, data.defined() ? data : parameters[name]);
  }
  for (const auto& item : parameters) {
    const bool is_bias = item.key() == "bias" || item.key().ends_with(".bias");
    if (config.bias == LoraBias::kAll && is_bias && !adapted.contains(item.key()) &&
        !parts.saved.contains(item.key())) {
      insert(item.key(), item.value());
    }
  }
  return tensors;
}

StateDict PeftModelImpl::get_peft_model_state_dict(const std::string& name) const {
  const auto& [unused, config, parts] = adapter(name);
  return named_tensors(config, parts);
}

void PeftModelImpl::save_pretrained(const std::string& folder, const std::string& name) const {
  SaveTransaction save(folder);
  save_pretrained(save, name);
  save.commit();
}

void PeftModelImpl::save_pretrained(SaveTransaction& save, const std::string& name) const {
  const auto tensors = get_peft_model_state_dict(name);
  auto config = peft_config(name);
  config.inference_mode = true;  // as peft writes it: the code that loads the adapter decides whether to train it
  save.remove("adapter_model.bin");
  save.write(kWeightsName, [&](const ByteSink& sink) { write_safetensors(sink, tensors, {{"format", "pt"}}); });
  save.write(kConfigName, config.to_json());
}

void PeftModelImpl::load_adapter(const std::string& name, const std::string& folder,
                                 const LoadAdapterOptions& options) {
  auto config = resolved(LoraConfig::from_pretrained(folder), *state_->model);
  config.inference_mode = !options.is_trainable;
  check_new(name, config);
  const auto file = open_weights(folder);
  // Shapes are checked first: a rank that no tensor has must not allocate memory.
  destinations(*file, named_tensors(config, make_parts(config, options.autocast_adapter_dtype, /*shapes_only=*/true)),
               *state_->model);
  auto parts = make_parts(config, options.autocast_adapter_dtype);
  const auto places = destinations(*file, named_tensors(config, parts), *state_->model);
  const at::NoGradGuard no_grad;
  for (const auto& item : places) {
    item.value().copy_(file->tensor(item.key()));
  }
  insert(name, std::move(config), std::move(parts));
}

}  // namespace transformers
