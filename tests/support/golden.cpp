#include "support/golden.h"

#include <transformers/utils/io/safetensors.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "support/temporary_folder.h"

namespace transformers::testing {

Golden::Golden(const std::string& path) {
  const SafetensorsFile file(path);
  metadata_ = file.metadata();
  for (const auto& info : file.tensors()) {
    tensors_[info.name] = file.tensor(info.name);
  }
}

int64_t Golden::steps() const { return nlohmann::json::parse(metadata_.at("case")).at("steps"); }

std::optional<double> Golden::number_option(const std::string& name) const {
  const auto options = nlohmann::json::parse(metadata_.at("case")).at("options");
  return options.contains(name) ? std::make_optional(options.at(name).get<double>()) : std::nullopt;
}

std::optional<bool> Golden::bool_option(const std::string& name) const {
  const auto options = nlohmann::json::parse(metadata_.at("case")).at("options");
  return options.contains(name) ? std::make_optional(options.at(name).get<bool>()) : std::nullopt;
}

at::Tensor Golden::tensor(const std::string& name) const {
  const auto entry = tensors_.find(name);
  return entry == tensors_.end() ? at::Tensor() : entry->second;
}

std::map<std::string, at::Tensor> Golden::all(const std::string& prefix) const {
  std::map<std::string, at::Tensor> found;
  for (const auto& [name, tensor] : tensors_) {
    if (name.starts_with(prefix)) {
      found[name.substr(prefix.size())] = tensor;
    }
  }
  return found;
}

Golden Golden::to(at::Device device) const {
  auto moved = *this;
  for (auto& [name, tensor] : moved.tensors_) {
    tensor = tensor.to(device);
  }
  return moved;
}

void Golden::write_folder(const std::string& folder) const {
  write_file((std::filesystem::path(folder) / "config.json").string(), config());
  torch::OrderedDict<std::string, at::Tensor> weights;
  for (const auto& [name, tensor] : all("weights.")) {
    weights.insert(name, tensor);
  }
  save_safetensors((std::filesystem::path(folder) / "model.safetensors").string(), weights);
}

std::string golden_path(const std::string& folder, const std::string& name) {
  return source_path("tests/golden/" + folder + "/" + name + ".safetensors");
}

std::vector<std::string> golden_names(const std::string& folder, const std::string& prefix) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(source_path("tests/golden/" + folder))) {
    const auto name = entry.path().stem().string();
    if (entry.path().extension() == ".safetensors" && name.starts_with(prefix)) {
      names.push_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace transformers::testing
