#include "utils/training/training_state.h"

#include <ATen/ATen.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <transformers/utils/io/safetensors.h>

#include <filesystem>
#include <mutex>

#include "utils/optim/internal/numbers.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

constexpr const char* kSetting = "setting.";
constexpr const char* kRun = "run";

/// The devices whose default generators a run of this process may use, by their name in the file.
std::map<std::string, c10::Device> generator_devices() {
  std::map<std::string, c10::Device> devices{{"cpu", c10::Device(c10::kCPU)}};
  const auto count =
      c10::impl::hasDeviceGuardImpl(c10::kCUDA) ? c10::impl::getDeviceGuardImpl(c10::kCUDA)->deviceCount() : 0;
  for (int i = 0; i < static_cast<int>(count); ++i) {
    devices.emplace("cuda." + std::to_string(i), c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(i)));
  }
  return devices;
}

StateDict random_numbers() {
  StateDict states;
  for (const auto& [name, device] : generator_devices()) {
    auto generator = at::globalContext().defaultGenerator(device);
    const std::lock_guard<std::mutex> lock(generator.mutex());
    states.insert(name, generator.get_state());
  }
  return states;
}

std::string run_in(const SafetensorsFile& file) {
  const auto found = file.metadata().find(kRun);
  return found == file.metadata().end() ? "" : found->second;
}

}  // namespace

std::string training_state_path(const std::string& folder) {
  return (std::filesystem::path(folder) / kTrainingStateFile).string();
}

std::string run_of_checkpoint(const std::string& folder) {
  return run_in(SafetensorsFile(training_state_path(folder)));
}

void save_training_state(const std::string& folder, const TrainingState& state) {
  torch::OrderedDict<std::string, at::Tensor> tensors;
  auto parts = state.tensors;
  parts.emplace("random", random_numbers());
  for (const auto& [part, dict] : parts) {
    for (const auto& item : dict) {
      tensors.insert(part + "." + item.key(), item.value());
    }
  }
  std::map<std::string, std::string> metadata{{"format", "pt"}, {kRun, state.run}};
  for (const auto& [name, value] : state.settings) {
    metadata[kSetting + name] = value;
  }
  save_safetensors(training_state_path(folder), tensors, metadata);
}

void check_settings(const TrainingState& state, const std::map<std::string, std::string>& settings) {
  for (const auto& [name, given] : settings) {
    const auto saved = state.settings.find(name);
    TORCH_CHECK(saved != state.settings.end() && saved->second == given, "the run was saved with ", name, " ",
                saved == state.settings.end() ? "unset" : printable(saved->second), " and cannot go on with ", given);
  }
}

TrainingState load_training_state(const std::string& folder) {
  const SafetensorsFile file(training_state_path(folder));
  TrainingState state{.run = run_in(file)};
  for (const auto& [key, value] : file.metadata()) {
    if (key.starts_with(kSetting)) {
      state.settings[key.substr(std::string_view(kSetting).size())] = value;
    }
  }
  for (const auto* part :
       {"optimizer", "scheduler", "scaler", "average", "early_stopping", "replicas", "random", "progress"}) {
    state.tensors.try_emplace(part);
  }
  for (const auto& info : file.tensors()) {
    const auto dot = info.name.find('.');
    const auto part = state.tensors.find(info.name.substr(0, dot));
    TORCH_CHECK(dot != std::string::npos && part != state.tensors.end(), printable(file.path()), ": tensor \"",
                printable(info.name), "\" is no part of a training state");
    part->second.insert(info.name.substr(dot + 1), file.tensor(info.name));
  }
  return state;
}

void restore_random_numbers(const TrainingState& state) {
  const auto devices = generator_devices();
  TORCH_CHECK(state.tensors.at("random").contains("cpu"), "training state: \"random.cpu\" is missing");
  for (const auto& item : state.tensors.at("random")) {
    if (const auto device = devices.find(item.key()); device != devices.end()) {
      auto generator = at::globalContext().defaultGenerator(device->second);
      const std::lock_guard<std::mutex> lock(generator.mutex());
      generator.set_state(item.value().clone());
    }
  }
}

}  // namespace transformers
