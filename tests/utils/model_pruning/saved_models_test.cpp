#include <ATen/ATen.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/model_pruning/pruning_plan.h>

#include <nlohmann/json.hpp>

#include "support/config_text.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "support/warning_recorder.h"

namespace transformers::testing {
namespace {

using Json = nlohmann::json;
using Fill = std::function<void(PruningPlan&)>;

class SavedPrunedModelTest : public ::testing::Test {
 protected:
  static at::Tensor logits(CausalLM& model) {
    const auto vocabulary = model.config().vocab_size;
    return model.forward({.input_ids = tiny_ids(2, 7) % vocabulary}).logits;
  }
  static std::shared_ptr<CausalLM> pruned(const PretrainedConfig& config, const Fill& fill) {
    auto model = tiny_model(config);
    auto plan = PruningPlan::for_model(*model);
    fill(plan);
    prune_model(*model, plan);
    return model;
  }
  Json saved_config() const { return Json::parse(read_file(folder_ / "model/config.json")); }
  /// Saves, loads and compares.
  void expect_comes_back(CausalLM& model, bool extended) const {
    model.save_pretrained(folder_ / "model", {.extended = extended});
    const auto loaded = AutoModelForCausalLM::from_pretrained(folder_ / "model");
    EXPECT_TENSORS_EQUAL(logits(*loaded), logits(model));
  }
  void expect_plain(const PretrainedConfig& config, const Fill& fill) const {
    const auto model = pruned(config, fill);
    EXPECT_EQ(model->config().inexpressible(), "");
    expect_comes_back(*model, /*extended=*/false);
    for (const auto* key : {"pruned_heads", "intermediate_sizes"}) {
      EXPECT_FALSE(saved_config().contains(key)) << key;
    }
  }
  void expect_extended(const PretrainedConfig& config, const Fill& fill, std::string_view reason) const {
    const auto model = pruned(config, fill);
    EXPECT_ERROR(model->save_pretrained(folder_ / "refused"), "refused", reason, "library-only form");
    EXPECT_FALSE(std::filesystem::exists(folder_ / "refused"));
    expect_comes_back(*model, /*extended=*/true);
  }

  const at::NoGradGuard no_grad_;
  const TemporaryFolder folder_;
};

TEST_F(SavedPrunedModelTest, EqualLayersAreWrittenInTransformersWords) {
  expect_plain(tiny_llama(), [](auto& plan) { plan.heads = {{0, {0, 1}}, {1, {2, 3}}}; });
  EXPECT_EQ(saved_config()["num_attention_heads"], 2);
  EXPECT_EQ(saved_config()["num_key_value_heads"], 1);
  EXPECT_EQ(saved_config()["head_dim"], 6);
  expect_plain(tiny_llama(), [](auto& plan) { plan.heads = {{0, {0, 2}}, {1, {1, 2}}}; });
  EXPECT_EQ(saved_config()["num_attention_heads"], 2);
  EXPECT_EQ(saved_config()["num_key_value_heads"], 2);
  expect_plain(tiny_llama(), [](auto& plan) { plan.channels = {{0, {0, 7}}, {1, {2, 3}}}; });
  EXPECT_EQ(saved_config()["intermediate_size"], 18);
  expect_plain(tiny_llama(), [](auto& plan) { plan.hidden_units = {0, 1, 2, 3}; });
  EXPECT_EQ(saved_config()["hidden_size"], 20);
  EXPECT_EQ(saved_config()["head_dim"], 6);
  expect_plain(tiny_gptj(), [](auto& plan) { plan.channels = {{0, {0, 7}}, {1, {2, 3}}}; });
  EXPECT_EQ(saved_config()["n_inner"], 18);
  expect_plain(tiny_gptj(), [](auto& plan) { plan.layers = {0}; });
  EXPECT_EQ(saved_config()["n_layer"], 1);
}

TEST_F(SavedPrunedModelTest, GPTJWithAsFewHeadsAsHiddenUnitsIsPlain) {
  expect_plain(tiny_gptj(), [](auto& plan) {
    plan.heads = {{0, {0}}, {1, {2}}};
    plan.hidden_units = {0, 1, 2, 3, 4, 5, 6, 7};
  });
  EXPECT_EQ(saved_config()["n_embd"], 16);
  EXPECT_EQ(saved_config()["n_head"], 2);
  EXPECT_EQ(saved_config()["n_inner"], 20);
  EXPECT_FALSE(saved_config().contains("head_dim"));
}

TEST_F(SavedPrunedModelTest, WhatTransformersHasNoWordForNeedsTheExtendedForm) {
  expect_extended(
      tiny_llama(),
      [](auto& plan) {
        plan.heads = {{1, {2, 3}}};
      },
      "layer 0 has 4 and layer 1 has 2");
  EXPECT_EQ(saved_config()["pruned_heads"], Json::parse(R"({"1": [2, 3]})"));
  EXPECT_EQ(saved_config()["num_attention_heads"], 4);
  auto unequal_groups = tiny_llama();
  unequal_groups.num_attention_heads = 8;
  unequal_groups.num_key_value_heads = 4;
  unequal_groups.head_dim = 6;
  expect_extended(
      unequal_groups,
      [](auto& plan) {
        plan.heads = {{0, {0, 1, 2, 3}}, {1, {0, 2, 4, 6}}};
      },
      "key/value heads");
  expect_extended(
      tiny_llama(),
      [](auto& plan) {
        plan.channels = {{1, {0}}};
      },
      "layer 0 has 20 and layer 1 has 19");
  EXPECT_EQ(saved_config()["intermediate_sizes"], Json::parse("[20, 19]"));
  auto five_of_six = tiny_llama();
  five_of_six.num_attention_heads = five_of_six.num_key_value_heads.emplace(6);
  expect_extended(
      five_of_six,
      [](auto& plan) {
        plan.heads = {{0, {0}}, {1, {5}}};
      },
      "divisible");
  expect_extended(
      tiny_gptj(),
      [](auto& plan) {
        plan.heads = {{0, {0}}, {1, {2}}};
      },
      "no head_dim");
  EXPECT_EQ(saved_config()["n_head"], 3);
  expect_extended(
      tiny_gptj(),
      [](auto& plan) {
        plan.hidden_units = {0, 23};
      },
      "no head_dim");
  EXPECT_EQ(saved_config()["head_dim"], 8);
}

TEST_F(SavedPrunedModelTest, ZeroedHeadsAreWrittenPlainly) {
  const auto model = tiny_model(tiny_gptj());
  auto plan = PruningPlan::for_model(*model);
  plan.heads = {{0, {1}}};
  prune_model(*model, plan, PruningMode::kZero);
  expect_comes_back(*model, /*extended=*/false);
  EXPECT_EQ(saved_config()["n_head"], 3);
}

TEST_F(SavedPrunedModelTest, PruningGoesOnAfterLoadingTheExtendedForm) {
  const auto model = pruned(tiny_llama(), [](auto& plan) { plan.heads = {{1, {2, 3}}}; });
  expect_comes_back(*model, /*extended=*/true);
  const auto loaded = AutoModelForCausalLM::from_pretrained(folder_ / "model");
  EXPECT_EQ(loaded->config().pruned_heads, model->config().pruned_heads);
  loaded->prune_heads({{0, {2, 3}}});
  model->prune_heads({{0, {2, 3}}});
  expect_comes_back(*model, /*extended=*/false);
  EXPECT_TENSORS_EQUAL(logits(*loaded), logits(*model));
}

TEST_F(SavedPrunedModelTest, PrunedHeadsThatNoWeightKnowsOfAreALeftover) {
  tiny_model(tiny_llama())->save_pretrained(folder_ / "model");
  const auto expected = logits(*AutoModelForCausalLM::from_pretrained(folder_ / "model"));
  const auto config = read_file(folder_ / "model/config.json");
  write_file(folder_ / "model/config.json", with_value(config, "pruned_heads", R"({"0": [0, 1]})"));
  const WarningRecorder warnings;
  const auto loaded = AutoModelForCausalLM::from_pretrained(folder_ / "model");
  EXPECT_TRUE(warnings.saw("pruned_heads is ignored"));
  EXPECT_TRUE(loaded->config().pruned_heads.empty());
  EXPECT_TENSORS_EQUAL(logits(*loaded), expected);
}

TEST_F(SavedPrunedModelTest, WeightsThatFitNeitherAreRefused) {
  pruned(tiny_llama(), [](auto& plan) {
    plan.heads = {{1, {2, 3}}};
  })->save_pretrained(folder_ / "model", {.extended = true});
  const auto config = read_file(folder_ / "model/config.json");
  write_file(folder_ / "model/config.json", with_value(config, "pruned_heads", R"({"0": [0, 1]})"));
  EXPECT_ERROR(AutoModelForCausalLM::from_pretrained(folder_ / "model"), "model.layers.0.self_attn.q_proj.weight",
               "expected [12, 24]");
  write_file(folder_ / "model/config.json", without_key(config, "pruned_heads"));
  EXPECT_ERROR(AutoModelForCausalLM::from_pretrained(folder_ / "model"), "model.layers.1.self_attn.q_proj.weight",
               "expected [24, 24]");
}

TEST_F(SavedPrunedModelTest, EveryClassIsBuiltPruned) {
  auto config = tiny_gptj();
  config.pruned_heads = {{0, {0, 1}}};
  config.intermediate_sizes = {3, 20};
  GPTJForTokenClassification model(config);
  EXPECT_EQ(model->structure().layers[0].attention_output->weight.size(1), 8);
  EXPECT_EQ(model->structure().layers[0].mlp_output->weight.size(1), 3);
  EXPECT_EQ(model->structure().layers[1].query->weight.size(0), 24);
}

TEST(PrunedConfigTest, AnEmptyKeyOfOldFilesMeansNothing) {
  const auto config = LlamaConfig::from_json(R"({"model_type": "llama", "pruned_heads": {}})");
  EXPECT_TRUE(config.pruned_heads.empty());
  EXPECT_EQ(config.unknown_keys.count("pruned_heads"), 0);
  EXPECT_TRUE(LlamaConfig::from_json(R"({"model_type": "llama", "pruned_heads": null})").pruned_heads.empty());
  EXPECT_TRUE(LlamaConfig::from_json(R"({"model_type": "llama", "pruned_heads": {"3": []}})").pruned_heads.empty());
}

class RefusedPrunedConfigTest : public ::testing::TestWithParam<RefusedValue> {};

TEST_P(RefusedPrunedConfigTest, IsAnErrorThatNamesKeyAndRule) {
  const auto text = with_value(tiny_llama().to_json(), GetParam().key, GetParam().value);
  for (const auto& fragment : GetParam().fragments) {
    EXPECT_ERROR(LlamaConfig::from_json(text, "config.json"), "config.json", GetParam().key, fragment);
  }
}

INSTANTIATE_TEST_SUITE_P(, RefusedPrunedConfigTest,
                         ::testing::ValuesIn(std::vector<RefusedValue>{
                             {"pruned_heads", "[0]", {"an object of lists"}},
                             {"pruned_heads", "3", {"an object of lists"}},
                             {"pruned_heads", R"({"a": [0]})", {"an object of lists"}},
                             {"pruned_heads", R"({"-1": [0]})", {"an object of lists"}},
                             {"pruned_heads", R"({"0": ["1"]})", {"integer"}},
                             {"pruned_heads", R"({"0": {"1": 2}})", {"integer"}},
                             {"pruned_heads", R"({"2": [0, 1]})", {"[0, 2)", "got 2"}},
                             {"pruned_heads", R"({"0": [0, 4]})", {"layer 0", "[0, 4)", "got 4"}},
                             {"pruned_heads", R"({"0": [0, -1]})", {"layer 0", "[0, 4)", "got -1"}},
                             {"pruned_heads", R"({"1": [2, 2]})", {"layer 1", "head 2 is listed twice"}},
                             {"pruned_heads", R"({"1": [0, 1, 2, 3]})", {"layer 1", "all 4 heads"}},
                             {"pruned_heads", R"({"1": [1]})", {"layer 1", "got 1 and 2"}},
                             {"intermediate_sizes", "[20]", {"one width a layer", "got 1 for 2 layers"}},
                             {"intermediate_sizes", "[20, 0]", {"[1, 2^31)", "got 0"}},
                             {"intermediate_sizes", "[20, 1.5]", {"integer"}},
                             {"intermediate_sizes", R"({"0": 3})", {"integer"}},
                             {"intermediate_sizes", "[2147483647, 4294967296]", {"got 4294967296"}},
                         }));

}  // namespace
}  // namespace transformers::testing
