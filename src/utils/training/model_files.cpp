#include "utils/training/internal/model_files.h"

#include <ATen/ATen.h>
#include <transformers/utils/io/checkpoint.h>
#include <transformers/utils/io/safetensors.h>
#include <transformers/utils/modeling/from_pretrained.h>
#include <transformers/utils/peft/peft_model.h>

#include <filesystem>
#include <unordered_set>

namespace transformers {
namespace {

/// Both `Checkpoint` and `SafetensorsFile` give tensors by name.
template <typename File>
void copy_tensor(const File& file, const std::string& folder, const std::string& name, at::Tensor target) {
  const auto values = file.tensor(name);
  TORCH_CHECK(values.sizes() == target.sizes(), folder, ": tensor \"", name, "\" must have the shape ", target.sizes(),
              ", found ", values.sizes());
  target.copy_(values);
}

/// A tied tensor is in the files under one of its names.
void read_model(PreTrainedModel& model, const std::string& folder) {
  const at::NoGradGuard no_grad;
  const Checkpoint checkpoint(folder);
  std::unordered_set<const void*> read;
  const auto read_those_there = [&](const auto& entries) {
    for (const auto& entry : entries) {
      if (checkpoint.contains(entry.key())) {
        copy_tensor(checkpoint, folder, entry.key(), entry.value());
        read.insert(entry.value().unsafeGetTensorImpl());
      }
    }
  };
  const auto check_all_are_read = [&](const auto& entries) {
    for (const auto& entry : entries) {
      TORCH_CHECK(read.contains(entry.value().unsafeGetTensorImpl()), folder, ": the tensor \"", entry.key(),
                  "\" is missing");
    }
  };
  const auto parameters = model.named_parameters();
  const auto buffers = model.named_buffers();
  read_those_there(parameters);
  read_those_there(buffers);
  check_all_are_read(parameters);
  check_all_are_read(buffers);
}

const std::string& active_adapter(const PeftModelImpl& model) {
  const auto& active = model.active_adapters();
  TORCH_CHECK(active.size() == 1, "Trainer: a checkpoint holds the active adapter, of which there must be one, found ",
              active.size(), "; the callbacks write_model and read_model can save several");
  return active.front();
}

void read_adapter(PeftModelImpl& model, const std::string& folder) {
  const at::NoGradGuard no_grad;
  const SafetensorsFile file((std::filesystem::path(folder) / "adapter_model.safetensors").string());
  for (const auto& entry : model.get_peft_model_state_dict(active_adapter(model))) {
    copy_tensor(file, folder, entry.key(), entry.value());
  }
}

}  // namespace

std::function<void(const std::string& folder)> model_writer(torch::nn::Module& model) {
  if (auto* adapters = dynamic_cast<PeftModelImpl*>(&model)) {
    return [adapters](const std::string& folder) { adapters->save_pretrained(folder, active_adapter(*adapters)); };
  }
  if (auto* pretrained = dynamic_cast<PreTrainedModel*>(&model)) {
    return [pretrained](const std::string& folder) { pretrained->save_pretrained(folder); };
  }
  return {};
}

std::function<void(const std::string& folder)> model_reader(torch::nn::Module& model) {
  if (auto* adapters = dynamic_cast<PeftModelImpl*>(&model)) {
    return [adapters](const std::string& folder) { read_adapter(*adapters, folder); };
  }
  if (auto* pretrained = dynamic_cast<PreTrainedModel*>(&model)) {
    return [pretrained](const std::string& folder) { read_model(*pretrained, folder); };
  }
  return {};
}

}  // namespace transformers
