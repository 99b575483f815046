// The checks of a pruning plan against a model, and its summary for people. Its JSON form is in pruning_plan_json.cpp.
#include <transformers/utils/model_pruning/pruning_plan.h>
#include <transformers/utils/modeling/causal_lm.h>

#include <algorithm>
#include <sstream>

#include "utils/model_pruning/parts.h"

namespace transformers {

using model_pruning::prune_config;

namespace {

using Numbers = std::vector<int64_t>;

void check_listed(const std::string& what, Numbers numbers, int64_t size) {
  TORCH_CHECK(!numbers.empty(), what, ": the list is empty");
  std::sort(numbers.begin(), numbers.end());
  const auto wrong = numbers.front() < 0 ? numbers.front() : numbers.back();
  TORCH_CHECK(wrong >= 0 && wrong < size, what, ": numbers must be in [0, ", size, "), got ", wrong);
  const auto twice = std::adjacent_find(numbers.begin(), numbers.end());
  TORCH_CHECK(twice == numbers.end(), what, ": ", *twice, " is listed twice");
}

void check_some_left(const std::string& what, const Numbers& numbers, int64_t size) {
  TORCH_CHECK(static_cast<int64_t>(numbers.size()) < size, what, ": all ", size,
              " would go, at least one must be left");
}

/// Checks the numbers of removed parts: there is at least one, none occurs twice, each exists, and some part is kept.
void check_numbers(const std::string& what, const Numbers& numbers, int64_t size) {
  check_listed(what, numbers, size);
  check_some_left(what, numbers, size);
}

std::string in_layer(const char* what, int64_t layer) {
  return std::string(what) + " of layer " + std::to_string(layer);
}

void check_layer(const char* what, int64_t layer, int64_t layers) {
  TORCH_CHECK(layer >= 0 && layer < layers, what, ": layers must be in [0, ", layers, "), got ", layer);
}

void check_same(const char* what, const Numbers& planned, const Numbers& found) {
  TORCH_CHECK(planned.size() == found.size(), "the plan is for ", planned.size(), " layers, this model has ",
              found.size());
  for (size_t layer = 0; layer < planned.size(); ++layer) {
    TORCH_CHECK(planned[layer] == found[layer], "the plan is for ", planned[layer], " ", what, " in layer ", layer,
                ", this model has ", found[layer]);
  }
}

void check_same(const PlannedModel& planned, const PlannedModel& found) {
  TORCH_CHECK(planned.model_type == found.model_type, "the plan is for a model of type ", planned.model_type,
              ", this one is of type ", found.model_type);
  TORCH_CHECK(planned.vocab_size == found.vocab_size, "the plan is for a vocabulary of ", planned.vocab_size,
              " tokens, this model has ", found.vocab_size);
  TORCH_CHECK(planned.hidden_size == found.hidden_size, "the plan is for ", planned.hidden_size,
              " hidden units, this model has ", found.hidden_size);
  check_same("heads", planned.heads, found.heads);
  check_same("key/value heads", planned.key_value_heads, found.key_value_heads);
  check_same("channels", planned.channels, found.channels);
}

void check_heads(const HeadsByLayer& heads, const PretrainedConfig& config, const PlannedModel& model) {
  for (const auto& [layer, gone] : heads) {
    check_layer("heads", layer, config.get_num_hidden_layers());
    const auto what = in_layer("heads", layer);
    check_listed(what, gone, config.sizes().num_attention_heads);
    if (const auto found = config.pruned_heads.find(layer); found != config.pruned_heads.end()) {
      for (const auto head : gone) {
        TORCH_CHECK(std::find(found->second.begin(), found->second.end(), head) == found->second.end(), what, ": head ",
                    head, " is gone already");
      }
    }
    check_some_left(what, gone, model.heads[static_cast<size_t>(layer)]);
  }
}

void check_vocabulary(const Numbers& kept, int64_t vocab_size) {
  for (size_t i = 0; i < kept.size(); ++i) {
    TORCH_CHECK(kept[i] >= 0 && kept[i] < vocab_size, "vocabulary: tokens must be in [0, ", vocab_size, "), got ",
                kept[i]);
    TORCH_CHECK(i == 0 || kept[i - 1] < kept[i], "vocabulary: the tokens that stay must ascend, got ", kept[i],
                " after ", kept[i - 1]);
  }
}

template <typename Config>
void check_special_tokens(const Config& config, const char* whose, const Numbers& new_ids) {
  const auto check = [&](const char* key, int64_t id) {
    const bool goes = id >= 0 && id < static_cast<int64_t>(new_ids.size()) && new_ids[static_cast<size_t>(id)] < 0;
    TORCH_CHECK(!goes, "vocabulary: token ", id, " must stay, it is ", key, " of the ", whose);
  };
  check("pad_token_id", config.pad_token_id.value_or(-1));
  check("bos_token_id", config.bos_token_id.value_or(-1));
  for (const auto id : config.eos_token_id) {
    check("eos_token_id", id);
  }
  if constexpr (std::is_same_v<Config, GenerationConfig>) {
    check("forced_bos_token_id", config.forced_bos_token_id.value_or(-1));
    for (const auto id : config.forced_eos_token_id) {
      check("forced_eos_token_id", id);
    }
  }
}

void check_what_is_left(const PretrainedConfig& config, const PruningPlan& plan) {
  const auto left = config.copy();
  prune_config(*left, plan);
  try {
    left->validate();
  } catch (const c10::Error& error) {
    TORCH_CHECK(false, "what the plan leaves is no valid model: ", error.what_without_backtrace());
  }
}

void print_numbers(std::ostream& out, const Numbers& numbers) {
  constexpr size_t kMost = 12;
  for (size_t i = 0; i < std::min(numbers.size(), kMost); ++i) {
    out << (i == 0 ? "" : ", ") << numbers[i];
  }
  out << (numbers.size() > kMost ? ", …" : "");
}

void print_by_layer(std::ostream& out, const char* what, const HeadsByLayer& gone, const Numbers& present) {
  for (const auto& [layer, numbers] : gone) {
    out << "layer " << layer << ": " << numbers.size() << " of " << present.at(static_cast<size_t>(layer)) << ' '
        << what << " go: ";
    print_numbers(out, numbers);
    out << '\n';
  }
}

}  // namespace

PruningPlan PruningPlan::for_model(PreTrainedModel& model) {
  PruningPlan plan;
  const auto& config = model.config();
  const auto head_dim = config.sizes().head_dim;
  plan.model = {.model_type = config.model_type(),
                .vocab_size = model.get_input_embeddings()->weight.size(0),
                .hidden_size = config.get_hidden_size()};
  for (const auto& layer : model.structure().layers) {
    plan.model.heads.push_back(layer.query->weight.size(0) / head_dim);
    plan.model.key_value_heads.push_back(layer.key->weight.size(0) / head_dim);
    plan.model.channels.push_back(layer.mlp_output->weight.size(1));
  }
  return plan;
}

bool PruningPlan::empty() const {
  return heads.empty() && channels.empty() && layers.empty() && hidden_units.empty() && vocabulary.empty();
}

std::vector<int64_t> PruningPlan::new_token_ids() const {
  if (vocabulary.empty()) {
    return {};
  }
  std::vector<int64_t> new_ids(static_cast<size_t>(model.vocab_size), -1);
  for (size_t i = 0; i < vocabulary.size(); ++i) {
    new_ids[static_cast<size_t>(vocabulary[i])] = static_cast<int64_t>(i);
  }
  return new_ids;
}

void PruningPlan::check(PreTrainedModel& pruned, PruningMode mode) const {
  pruned.check_prunable();
  const auto& config = pruned.config();
  const auto found = for_model(pruned).model;
  check_same(model, found);
  check_heads(heads, config, found);
  for (const auto& [layer, gone] : channels) {
    check_layer("channels", layer, config.get_num_hidden_layers());
    check_numbers(in_layer("channels", layer), gone, found.channels[static_cast<size_t>(layer)]);
  }
  if (!layers.empty()) {
    check_numbers("layers", layers, config.get_num_hidden_layers());
  }
  if (!hidden_units.empty()) {
    check_numbers("hidden_units", hidden_units, found.hidden_size);
  }
  check_vocabulary(vocabulary, found.vocab_size);
  check_special_tokens(config, "config", new_token_ids());
  if (const auto* causal = dynamic_cast<const CausalLM*>(&pruned)) {
    check_special_tokens(causal->generation_config, "generation config", new_token_ids());
  }
  if (mode == PruningMode::kRemove) {
    check_what_is_left(config, *this);
  }
}

std::string PruningPlan::to_string() const {
  std::ostringstream text;
  text << "plan for a " << model.model_type << " model of " << model.channels.size() << " layers, " << model.hidden_size
       << " hidden units, " << model.vocab_size << " tokens\n";
  print_by_layer(text, "heads", heads, model.heads);
  print_by_layer(text, "channels", channels, model.channels);
  const auto print = [&](const char* what, const Numbers& numbers, const char* verb) {
    if (!numbers.empty()) {
      text << numbers.size() << ' ' << what << ' ' << verb << ": ";
      print_numbers(text, numbers);
      text << '\n';
    }
  };
  print("layers", layers, "go");
  print("hidden units", hidden_units, "go");
  print("tokens", vocabulary, "stay");
  if (empty()) {
    text << "nothing goes\n";
  }
  return text.str();
}

}  // namespace transformers
