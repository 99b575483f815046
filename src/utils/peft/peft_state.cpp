#include "utils/peft/peft_state.h"

#include <ATen/ATen.h>
#include <transformers/utils/modeling/clone_model.h>

#include <algorithm>

namespace transformers {

std::string module_name(std::string layer) {
  std::replace(layer.begin(), layer.end(), '.', '/');
  return layer;
}

PeftModelImpl::Adapter* PeftModelImpl::State::find(const std::string& name) {
  const auto found = std::find_if(adapters.begin(), adapters.end(), [&](const auto& a) { return a.name == name; });
  return found == adapters.end() ? nullptr : &*found;
}

bool PeftModelImpl::State::is_active(const std::string& name) const {
  return std::find(active.begin(), active.end(), name) != active.end();
}

std::string PeftModelImpl::State::holder_of(const std::string& parameter) {
  for (const auto& name : active) {
    if (enabled && find(name)->parts.saved.contains(parameter)) {
      return name;
    }
  }
  return {};
}

void PeftModelImpl::State::exchange(const std::string& parameter, Exchanged& slot, const std::string& holder) {
  if (slot.holder == holder) {
    return;
  }
  const auto data_of = [&](const std::string& adapter) -> at::Tensor& {
    return adapter.empty() ? slot.base : find(adapter)->parts.saved.at(parameter);
  };
  data_of(slot.holder) = slot.parameter.detach();
  auto& data = data_of(holder);
  // The model may have been moved or cast in the meantime.
  slot.parameter.set_data(data.to(slot.parameter.options().requires_grad(false)));
  data = at::Tensor();
  slot.holder = holder;
}

void PeftModelImpl::State::note_tie() const {
  auto* pretrained = dynamic_cast<PreTrainedModel*>(model.get());
  const auto head = pretrained == nullptr || untied.empty() ? Linear(nullptr) : pretrained->get_output_embeddings();
  if (head && std::any_of(untied.begin(), untied.end(), [&](const auto& entry) { return entry.first == head.ptr(); })) {
    pretrained->config().tie_word_embeddings = head->weight.is_same(pretrained->get_input_embeddings()->weight);
  }
}

void PeftModelImpl::State::set_requires_grad() {
  for (auto& parameter : model->parameters()) {
    parameter.requires_grad_(false);
  }
  for (auto& adapter : adapters) {
    const bool learns = is_active(adapter.name) && !adapter.config.inference_mode;
    for (auto& [target, weights] : adapter.parts.layers) {
      for (auto& parameter : weights->parameters()) {
        parameter.requires_grad_(learns);
      }
      if (learns && adapter.config.bias == LoraBias::kLoraOnly && target.linear->bias.defined()) {
        target.linear->bias.requires_grad_(true);
      }
    }
    if (learns && adapter.config.bias == LoraBias::kAll) {
      for (auto& item : model->named_parameters()) {
        if (item.key() == "bias" || item.key().ends_with(".bias")) {
          item.value().requires_grad_(true);
        }
      }
    }
  }
  for (auto& [name, slot] : exchanged) {
    slot.parameter.requires_grad_(!slot.holder.empty() && !find(slot.holder)->config.inference_mode);
  }
}

}  // namespace transformers
