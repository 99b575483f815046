#pragma once

#include <torch/nn/modules/container/modulelist.h>
#include <transformers/export.h>
#include <transformers/utils/modeling/base_model.h>
#include <transformers/utils/modeling/forward_plan.h>
#include <transformers/utils/nn/activation_checkpoint.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// Runs one layer; where the model checkpoints it, backward runs it again. A checkpointed layer returns no attention
/// weights.
template <typename Layer, typename LayerInputs>
LayerOutput run_layer(const Layer& layer, const at::Tensor& hidden_states, const LayerInputs& inputs,
                      bool is_checkpointed) {
  if (!is_checkpointed) {
    return layer(hidden_states, inputs);
  }
  const auto states_alone = [layer, inputs](const at::Tensor& states) { return layer(states, inputs).hidden_states; };
  return {.hidden_states = checkpoint(states_alone, hidden_states), .attentions = {}};
}

/// Runs the layers of a decoder that the model is to run, each on its device, and collects the outputs that the plan
/// asks for. `Layer` is a holder whose call takes hidden states [batch, seq, hidden] and `LayerInputs`, which have
/// `move_to(device)`. The last hidden state is that of the last layer, before the model's last norm.
template <typename Layer, typename LayerInputs>
BaseModelOutputWithPast run_layers(const BaseModel& model, const torch::nn::ModuleList& layers,
                                   at::Tensor hidden_states, LayerInputs inputs, const ForwardPlan& plan) {
  BaseModelOutputWithPast outputs;
  outputs.past_key_values = plan.past_key_values;
  const auto& devices = model.block_devices();
  const auto blocks = model.blocks_to_run();
  for (auto i = static_cast<size_t>(blocks.begin); i < static_cast<size_t>(blocks.end); ++i) {
    if (!devices.empty()) {
      hidden_states = hidden_states.to(devices[i]);
      inputs.move_to(devices[i]);
    }
    plan.add_hidden_state(outputs, hidden_states, static_cast<int64_t>(i));
    const Layer layer(layers->ptr<typename Layer::Impl>(i));
    auto output = run_layer(layer, hidden_states, inputs, model.checkpoints_block(i) && !plan.output_attentions);
    hidden_states = std::move(output.hidden_states);
    if (plan.output_attentions) {
      outputs.attentions.push_back(std::move(output.attentions));
    }
  }
  outputs.last_hidden_state = std::move(hidden_states);
  return outputs;
}

/// The layers with these numbers, in this order. `set_layer_idx` gives each its new index in a cache.
template <typename Layer>
torch::nn::ModuleList selected_layers(const torch::nn::ModuleList& layers, const std::vector<int64_t>& numbers) {
  torch::nn::ModuleList selected;
  for (const auto number : numbers) {
    auto layer = layers->ptr<typename Layer::Impl>(static_cast<size_t>(number));
    layer->set_layer_idx(static_cast<int64_t>(selected->size()));
    selected->push_back(std::move(layer));
  }
  return selected;
}

}  // namespace transformers
