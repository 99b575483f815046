// Saves a tiny model of each kind of pruning that transformers' config can express, as
// scripts/check/load_saved_models.py wants them: save_pruned_models FOLDER
#include <ATen/ATen.h>
#include <transformers/utils/io/safetensors.h>
#include <transformers/utils/model_pruning/importance.h>

#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

void save(CausalLM& model, const std::string& folder) {
  model.save_pretrained(folder);
  const auto ids = tiny_ids(2, 7) % model.config().vocab_size;
  save_safetensors(folder + "/expected.safetensors",
                   {{"input_ids", ids}, {"logits", model.forward({.input_ids = ids}).logits}});
}

struct Kind {
  std::string name;
  std::map<PrunablePart, double> shares;
  bool fewer_layers = false, fewer_tokens = false;
  PruningMode mode = PruningMode::kRemove;
};

void save_pruned(const NamedConfig& named, const Kind& kind, const std::string& folder) {
  const auto model = tiny_model(*named.config);
  auto plan = plan_pruning(*model, {.shares = kind.shares});
  if (kind.fewer_layers) {
    plan.layers = {0};
  }
  for (int64_t id = 0; kind.fewer_tokens && id < 40; id += id < 8 ? 1 : 2) {
    plan.vocabulary.push_back(id);
  }
  prune_model(*model, plan, kind.mode);
  save(*model, folder + "/" + named.name + "_" + kind.name);
}

void save_all(const std::string& folder) {
  const at::NoGradGuard no_grad;
  const auto heads = PrunablePart::kHeads, groups = PrunablePart::kGroups, channels = PrunablePart::kChannels;
  const auto units = PrunablePart::kHiddenUnits;
  std::vector<Kind> both{{"channels", {{channels, 0.25}}},
                         {"layers", {}, /*fewer_layers=*/true},
                         {"tokens", {}, false, /*fewer_tokens=*/true},
                         {"all", {{channels, 0.5}}, true, true},
                         {"zeroed_heads", {{groups, 0.5}}, false, false, PruningMode::kZero},
                         {"zeroed", {{heads, 0.5}, {channels, 0.5}, {units, 0.3}}, true, true, PruningMode::kZero}};
  std::vector<Kind> llama{{"groups", {{groups, 0.5}}},
                          {"heads", {{heads, 0.5}}},
                          {"hidden_units", {{units, 0.34}}},
                          {"everything", {{groups, 0.5}, {channels, 0.3}, {units, 0.5}}, true, true}};
  for (const auto& named : config_grid()) {
    for (const auto& kind : both) {
      save_pruned(named, kind, folder);
    }
    for (const auto& kind : named.config->model_type() == "llama" ? llama : std::vector<Kind>{}) {
      save_pruned(named, kind, folder);
    }
    if (named.config->model_type() == "gptj") {
      // Two heads of three and two thirds of the hidden units: transformers' GPT-J can say that.
      save_pruned(named, {"a_third", {{heads, 0.34}, {units, 0.34}}}, folder);
    }
  }
}

}  // namespace
}  // namespace transformers::testing

int main(int, char** arguments) { transformers::testing::save_all(arguments[1]); }
