// Carries out a pruning plan: kRemove narrows parameters, config and generation config; kZero sets rows and columns to
// zero and keeps all shapes. The plan is checked first, so that an error changes nothing.
#include <ATen/ATen.h>
#include <torch/nn/modules/normalization.h>
#include <transformers/utils/model_pruning/pruning_plan.h>
#include <transformers/utils/modeling/causal_lm.h>
#include <transformers/utils/nn/packed_linear.h>

#include <algorithm>

#include "utils/model_pruning/parts.h"

namespace transformers {
namespace {

using namespace model_pruning;
using Numbers = std::vector<int64_t>;

/// Removes the parts `gone` from all matrices of a layer.
void remove_parts(const std::vector<Share>& shares, const Numbers& gone) {
  for (const auto& share : shares) {
    if (share.layer) {
      keep_features(share.layer, features(all_but(gone, share.parts()), share.unit), share.dim);
    }
  }
}

/// Norms keep their parameters, which the family holds as members, and change the data.
void narrow_norm(torch::nn::Module& norm, const at::Tensor& kept) {
  for (auto& entry : norm.named_parameters(/*recurse=*/false)) {
    auto& parameter = entry.value();
    parameter.mutable_grad().reset();
    parameter.set_data(parameter.detach().index_select(0, kept.to(parameter.device())));
  }
  if (auto* layer_norm = norm.as<torch::nn::LayerNormImpl>()) {
    layer_norm->options.normalized_shape({kept.numel()});
  }
}

bool has_tied_head(PreTrainedModel& model) {
  const auto output = model.get_output_embeddings();
  return output && output->weight.is_same(model.get_input_embeddings()->weight);
}

/// Narrows the embedding table; an output layer that shared it shares the new one.
void narrow_embeddings(PreTrainedModel& model, const at::Tensor& kept, int64_t dim) {
  const bool is_tied = has_tied_head(model);
  auto embeddings = model.get_input_embeddings();
  auto output = model.get_output_embeddings();
  const auto table = embeddings->weight.detach();
  embeddings->set_weight(table.index_select(dim, kept.to(table.device())));
  if (output && dim == 0) {
    keep_features(output, kept, 0);
  } else if (is_tied) {
    keep_features(output, kept, 1);
  }
  if (is_tied) {
    output->tie_weight(embeddings->weight);
  }
}

void remove_hidden_units(PreTrainedModel& model, const Numbers& gone) {
  if (gone.empty()) {
    return;
  }
  const auto kept = at::tensor(all_but(gone, model.config().get_hidden_size()), at::kLong);
  remove_parts(shares(model, PrunablePart::kHiddenUnits).front(), gone);
  narrow_embeddings(model, kept, 1);
  for (const auto& norm : model.structure().norms) {
    narrow_norm(*norm, kept);
  }
}

void remove_tokens(PreTrainedModel& model, const PruningPlan& plan) {
  if (plan.vocabulary.empty()) {
    return;
  }
  narrow_embeddings(model, at::tensor(plan.vocabulary, at::kLong), 0);
  const auto new_ids = plan.new_token_ids();
  auto& options = model.get_input_embeddings()->options;
  if (const auto old = options.padding_idx()) {
    const auto id = new_ids[static_cast<size_t>(*old)];
    options.padding_idx(id < 0 ? std::nullopt : std::make_optional(id));
  }
  if (auto* causal = dynamic_cast<CausalLM*>(&model)) {
    renumber_tokens(causal->generation_config, new_ids);
  }
}

void remove(PreTrainedModel& model, const PruningPlan& plan) {
  model.prune_heads(plan.heads);
  const auto channels = shares(model, PrunablePart::kChannels);
  for (const auto& [layer, gone] : plan.channels) {
    remove_parts(channels[static_cast<size_t>(layer)], gone);
  }
  remove_hidden_units(model, plan.hidden_units);
  remove_tokens(model, plan);
  prune_config(model.config(), plan);
  if (!plan.layers.empty()) {
    model.keep_layers(all_but(plan.layers, model.config().get_num_hidden_layers()));
  }
}

void zero_features(const Share& share, const Numbers& gone) {
  auto weight = share.weight;
  const auto index = features(gone, share.unit).to(weight.device());
  weight.index_fill_(share.dim, index, 0);
  if (share.layer && share.dim == 0 && share.layer->bias.defined()) {
    share.layer->bias.index_fill_(0, index, 0);
  }
}

/// Key/value heads that lose all of their query heads, by their position among the remaining ones.
Numbers unused_groups(Numbers heads, int64_t group_size) {
  std::sort(heads.begin(), heads.end());
  Numbers groups;
  for (size_t i = 0; i < heads.size(); ++i) {
    const auto last = i + static_cast<size_t>(group_size) - 1;
    if (heads[i] % group_size == 0 && last < heads.size() && heads[last] == heads[i] + group_size - 1) {
      groups.push_back(heads[i] / group_size);
    }
  }
  return groups;
}

void zero_heads(PreTrainedModel& model, const PruningPlan& plan) {
  const auto heads = shares(model, PrunablePart::kHeads), groups = shares(model, PrunablePart::kGroups);
  for (const auto& [layer, gone] : plan.heads) {
    const auto number = static_cast<size_t>(layer);
    const auto places = present_heads(model.config(), layer, gone);
    for (const auto& share : heads[number]) {
      zero_features(share, places);
    }
    const auto unused = unused_groups(places, plan.model.heads[number] / plan.model.key_value_heads[number]);
    for (const auto& share : unused.empty() ? std::vector<Share>{} : groups[number]) {
      zero_features(share, unused);
    }
  }
}

void zero_layers(PreTrainedModel& model, const Numbers& gone) {
  const auto layers = model.structure().layers;
  for (const auto number : gone) {
    const auto& layer = layers[static_cast<size_t>(number)];
    for (const auto& writer : {layer.attention_output, layer.mlp_output}) {
      writer->weight.zero_();
      if (writer->bias.defined()) {
        writer->bias.zero_();
      }
    }
  }
}

void zero_hidden_units(PreTrainedModel& model, const Numbers& gone) {
  if (gone.empty()) {
    return;
  }
  const auto of_units = shares(model, PrunablePart::kHiddenUnits).front();
  for (const auto& share : of_units) {
    zero_features(share, gone);
  }
  for (const auto& norm : model.structure().norms) {
    for (auto& entry : norm->named_parameters(/*recurse=*/false)) {
      entry.value().index_fill_(0, at::tensor(gone, at::kLong).to(entry.value().device()), 0);
    }
  }
}

void zero_tokens(PreTrainedModel& model, const PruningPlan& plan) {
  const auto gone = plan.vocabulary.empty() ? Numbers() : all_but(plan.vocabulary, plan.model.vocab_size);
  if (gone.empty()) {
    return;
  }
  zero_features({model.get_input_embeddings()->weight, 0, 1}, gone);
  if (const auto output = model.get_output_embeddings()) {
    zero_features({output->weight, 0, 1, output}, gone);
  }
}

/// A packed copy does not notice that its weight was changed in place.
void pack_again(torch::nn::Module& model) {
  for (const auto& module : model.modules()) {
    auto* linear = module->as<LinearImpl>();
    if (linear != nullptr && dynamic_cast<const PackedLinear*>(linear->method().get()) != nullptr) {
      linear->set_method(std::make_shared<PackedLinear>(linear->weight));
    }
  }
}

void zero(PreTrainedModel& model, const PruningPlan& plan) {
  zero_heads(model, plan);
  const auto channels = shares(model, PrunablePart::kChannels);
  for (const auto& [layer, gone] : plan.channels) {
    for (const auto& share : channels[static_cast<size_t>(layer)]) {
      zero_features(share, gone);
    }
  }
  zero_layers(model, plan.layers);
  zero_hidden_units(model, plan.hidden_units);
  zero_tokens(model, plan);
  pack_again(model);
}

}  // namespace

void prune_model(PreTrainedModel& model, const PruningPlan& plan, PruningMode mode) {
  plan.check(model, mode);
  const at::NoGradGuard no_grad;
  mode == PruningMode::kRemove ? remove(model, plan) : zero(model, plan);
}

}  // namespace transformers
