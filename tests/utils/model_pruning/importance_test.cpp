#include <ATen/ATen.h>
#include <torch/autograd.h>
#include <torch/utils.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/model_pruning/importance.h>
#include <transformers/utils/quantization/weight_only.h>

#include "support/golden.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

using Numbers = std::vector<int64_t>;

const std::map<std::string, PruningCriterion> kCriteria{{"l1", PruningCriterion::kL1},
                                                        {"l2", PruningCriterion::kL2},
                                                        {"activation", PruningCriterion::kActivation},
                                                        {"taylor", PruningCriterion::kTaylor}};
const std::map<std::string, PrunablePart> kParts{{"heads", PrunablePart::kHeads},
                                                 {"groups", PrunablePart::kGroups},
                                                 {"channels", PrunablePart::kChannels},
                                                 {"layers", PrunablePart::kLayers},
                                                 {"hidden_units", PrunablePart::kHiddenUnits}};

class ImportanceGoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(ImportanceGoldenTest, ScoresAreThoseOfPython) {
  const Golden golden(golden_path("model_pruning", GetParam()));
  const TemporaryFolder folder;
  golden.write_folder(folder.path().string());
  const auto model = AutoModelForCausalLM::from_pretrained(folder.path().string());
  ImportanceOptions options{.calibration = {golden.tensor("inputs.0"), golden.tensor("inputs.1")}};
  int compared = 0;
  for (const auto& [criterion_name, criterion] : kCriteria) {
    options.criterion = criterion;
    for (const auto& [part_name, part] : kParts) {
      const auto scores = importance(*model, part, options);
      const auto expected = golden.all("scores." + criterion_name + "." + part_name + ".");
      ASSERT_EQ(scores.size(), expected.size()) << criterion_name << " " << part_name;
      for (const auto& [layer, score] : expected) {
        SCOPED_TRACE(criterion_name + " " + part_name + " " + layer);
        EXPECT_TRUE(tensors_close_to_largest(scores[std::stoul(layer)].to(at::kFloat), score, 1e-5));
        ++compared;
      }
    }
  }
  EXPECT_EQ(compared, 32);
}

INSTANTIATE_TEST_SUITE_P(, ImportanceGoldenTest, ::testing::Values("llama_importance", "gptj_importance"));

ImportanceOptions calibrated(PruningCriterion criterion) {
  return {.criterion = criterion, .calibration = {tiny_ids(2, 8)}};
}

TEST(ImportanceTest, LeavesTheModelAsItWas) {
  const auto model = tiny_model(tiny_llama());
  model->train();
  auto query = model->structure().layers[0].query;
  query->weight.set_requires_grad(false);
  const auto before = query->weight.clone();
  for (const auto& [name, criterion] : kCriteria) {
    importance(*model, PrunablePart::kGroups, calibrated(criterion));
  }
  EXPECT_TRUE(model->is_training());
  EXPECT_FALSE(query->weight.requires_grad());
  EXPECT_TENSORS_EQUAL(query->weight, before);
  EXPECT_FALSE(model->structure().layers[0].attention_output->has_forward_hooks());
  for (const auto& parameter : model->parameters()) {
    EXPECT_FALSE(parameter.grad().defined());
  }
}

TEST(ImportanceTest, ATiedTableCountsOnce) {
  const at::NoGradGuard no_grad;
  auto config = tiny_llama();
  config.tie_word_embeddings = true;
  const auto model = tiny_model(config);
  for (const auto& layer : model->structure().layers) {
    for (const auto& matrix : {layer.query, layer.key, layer.value, layer.attention_output, layer.mlp_output}) {
      matrix->weight.zero_();
    }
    for (const auto& matrix : layer.mlp_inputs) {
      matrix->weight.zero_();
    }
  }
  const auto scores = importance(*model, PrunablePart::kHiddenUnits, {.criterion = PruningCriterion::kL1});
  EXPECT_TENSORS_CLOSE(scores[0].to(at::kFloat), model->get_input_embeddings()->weight.abs().sum(0));
}

TEST(ImportanceTest, RandomScoresHangOnTheSeedAlone) {
  const auto model = tiny_model(tiny_gptj());
  ImportanceOptions options{.criterion = PruningCriterion::kRandom, .seed = 5};
  const auto first = importance(*model, PrunablePart::kChannels, options);
  at::rand({3});
  const auto again = importance(*model, PrunablePart::kChannels, options);
  options.seed = 6;
  const auto other = importance(*model, PrunablePart::kChannels, options);
  EXPECT_TENSORS_EQUAL(first[1], again[1]);
  EXPECT_FALSE(first[1].equal(other[1]));
  EXPECT_FALSE(first[0].equal(first[1]));
}

TEST(ImportanceTest, RefusesMissingOrUnfitCalibration) {
  const auto model = tiny_model(tiny_llama());
  const auto score = [&](PruningCriterion criterion, std::vector<at::Tensor> calibration) {
    importance(*model, PrunablePart::kChannels, {.criterion = criterion, .calibration = std::move(calibration)});
  };
  EXPECT_ERROR(score(PruningCriterion::kActivation, {}), "needs calibration tokens");
  EXPECT_ERROR(score(PruningCriterion::kTaylor, {}), "needs calibration tokens");
  EXPECT_ERROR(score(PruningCriterion::kActivation, {at::ones({3}, at::kLong)}), "[batch, seq]", "[3]");
  EXPECT_ERROR(score(PruningCriterion::kTaylor, {at::ones({3, 1}, at::kLong)}), "at least 2");
  EXPECT_ERROR(score(PruningCriterion::kActivation, {at::full({1, 3}, 40, at::kLong)}), "[0, 40)");
  LlamaModel base(tiny_llama());
  EXPECT_ERROR(importance(*base, PrunablePart::kChannels, calibrated(PruningCriterion::kTaylor)), "causal LM",
               "LlamaModel");
}

// Rounding to bf16 after each batch loses what a batch adds to a large sum.
TEST(ImportanceTest, TaylorGradientsAreSummedInFloat32) {
  const auto model = tiny_model(tiny_llama(), at::kBFloat16);
  const auto structure = model->structure();
  const auto& layer = structure.layers[0];
  const std::vector<at::Tensor> weights{layer.mlp_output->weight, layer.mlp_inputs[0]->weight,
                                        layer.mlp_inputs[1]->weight};
  ImportanceOptions options{.criterion = PruningCriterion::kTaylor};
  std::vector<at::Tensor> sums(weights.size());
  for (int64_t batch = 0; batch < 24; ++batch) {
    options.calibration.push_back((tiny_ids(1, 6) + batch) % 40);
    const auto& ids = options.calibration.back();
    const auto loss = model->forward({.input_ids = ids, .use_cache = false}, {.labels = ids}).loss;
    const auto gradients = torch::autograd::grad({loss}, weights);
    for (size_t i = 0; i < weights.size(); ++i) {
      const auto gradient = gradients[i].to(at::kFloat);
      sums[i] = batch == 0 ? gradient : sums[i] + gradient;
    }
  }
  auto expected = at::zeros({20});
  for (size_t i = 0; i < weights.size(); ++i) {
    expected += (weights[i].detach().to(at::kFloat) * sums[i]).abs().sum(i == 0 ? 0 : 1);
  }
  const auto scores = importance(*model, PrunablePart::kChannels, options);
  EXPECT_TENSORS_CLOSE(scores[0].to(at::kFloat), expected);
}

TEST(ImportanceTest, RefusesModelsThatCannotBePrunedOrHaveNoValues) {
  const TemporaryFolder folder;
  tiny_model(tiny_llama())->save_pretrained(folder / "model");
  const auto placed = AutoModelForCausalLM::from_pretrained(folder / "model", {.device_map = "disk"});
  const auto quantised = tiny_model(tiny_llama());
  quantize(quantised->base_model());
  const auto expect_refused = [](CausalLM& model, std::string_view fragment, std::string_view reason) {
    const auto plan = PruningPlan::for_model(model);
    for (const auto criterion : {PruningCriterion::kL1, PruningCriterion::kActivation, PruningCriterion::kTaylor}) {
      EXPECT_ERROR(importance(model, PrunablePart::kChannels, calibrated(criterion)), fragment, reason);
    }
    EXPECT_ERROR(plan_pruning(model, {.shares = {{PrunablePart::kChannels, 0.5}}}), fragment, reason);
    EXPECT_ERROR(plan_pruning(model, {}), fragment, reason);
    EXPECT_ERROR(prune_model(model, plan), fragment, reason);
    EXPECT_ERROR(prune_model(model, plan, PruningMode::kZero), fragment, reason);
    EXPECT_ERROR(model.prune_heads({{0, {0, 1}}}), fragment, reason);
    EXPECT_ERROR(model.keep_layers({0}), fragment, reason);
    EXPECT_EQ(model.config().get_num_hidden_layers(), 2);
  };
  expect_refused(*placed, "LlamaForCausalLM was placed", "neither pruned nor resized");
  expect_refused(*quantised, "model.layers.0.self_attn.q_proj", "adapted or quantised");
  const ConstructionGuard guard({.device = c10::kMeta, .initialize = false});
  EXPECT_ERROR(importance(*LlamaForCausalLM(tiny_llama()), PrunablePart::kChannels), "model.embed_tokens.weight",
               "no values");
}

class PlanPruningTest : public ::testing::Test {
 protected:
  /// Rows of the query projection of these heads get small.
  static void weaken_heads(CausalLM& model, int64_t layer, const Numbers& heads) {
    const auto structure = model.structure().layers[static_cast<size_t>(layer)];
    const auto head_dim = model.config().sizes().head_dim;
    for (const auto head : heads) {
      structure.query->weight.narrow(0, head * head_dim, head_dim).zero_();
      structure.attention_output->weight.narrow(1, head * head_dim, head_dim).zero_();
    }
  }

  /// All that a key/value head and its query heads have of a layer.
  static void scale_group(CausalLM& model, int64_t layer, int64_t group, double factor) {
    const auto structure = model.structure().layers[static_cast<size_t>(layer)];
    const auto head_dim = model.config().sizes().head_dim;
    for (const auto& projection : {structure.key, structure.value}) {
      projection->weight.narrow(0, group * head_dim, head_dim).mul_(factor);
    }
    const auto queries = structure.query->weight.size(0) / structure.key->weight.size(0) * head_dim;
    structure.query->weight.narrow(0, group * queries, queries).mul_(factor);
    structure.attention_output->weight.narrow(1, group * queries, queries).mul_(factor);
  }

  const at::NoGradGuard no_grad_;
};

TEST_F(PlanPruningTest, TakesTheFloorOfTheShareOfEachLayer) {
  const auto model = tiny_model(tiny_llama());
  for (const auto& layer : model->structure().layers) {
    for (const int64_t channel : {2, 5, 11}) {
      layer.mlp_output->weight.select(1, channel).zero_();
      layer.mlp_inputs[0]->weight[channel].zero_();
      layer.mlp_inputs[1]->weight[channel].zero_();
    }
  }
  const auto plan = plan_pruning(*model, {.shares = {{PrunablePart::kChannels, 0.19}, {PrunablePart::kGroups, 0.49}}});
  EXPECT_EQ(plan.channels, (HeadsByLayer{{0, {2, 5, 11}}, {1, {2, 5, 11}}}));
  EXPECT_TRUE(plan.heads.empty());
  EXPECT_EQ(plan_pruning(*model, {.shares = {{PrunablePart::kChannels, 0.1}}}).channels.at(1), (Numbers{2, 5}));
}

TEST_F(PlanPruningTest, GroupsGoWithTheirQueryHeads) {
  const auto model = tiny_model(tiny_llama());
  weaken_heads(*model, 0, {2, 3});
  weaken_heads(*model, 1, {0, 1});
  const auto plan = plan_pruning(*model, {.shares = {{PrunablePart::kGroups, 0.5}}});
  EXPECT_EQ(plan.heads, (HeadsByLayer{{0, {2, 3}}, {1, {0, 1}}}));
}

TEST_F(PlanPruningTest, SingleHeadsGoFromEachGroupAlike) {
  const auto model = tiny_model(tiny_llama());
  weaken_heads(*model, 0, {1, 2, 3});
  weaken_heads(*model, 1, {0, 3});
  const auto plan = plan_pruning(*model, {.shares = {{PrunablePart::kHeads, 0.5}}});
  EXPECT_EQ(plan.heads, (HeadsByLayer{{0, {1, 2}}, {1, {0, 3}}}));
}

TEST_F(PlanPruningTest, NumbersOfAPrunedModelAreThoseBeforePruning) {
  auto config = tiny_gptj();
  const auto model = tiny_model(config);
  model->prune_heads({{0, {0}}});
  weaken_heads(*model, 0, {0});
  weaken_heads(*model, 1, {2});
  const auto plan = plan_pruning(*model, {.shares = {{PrunablePart::kHeads, 0.5}}});
  EXPECT_EQ(plan.heads, (HeadsByLayer{{0, {1}}, {1, {2}}}));
  prune_model(*model, plan);
  EXPECT_EQ(model->config().pruned_heads, (HeadsByLayer{{0, {0, 1}}, {1, {2}}}));
}

TEST_F(PlanPruningTest, AGlobalChoiceTakesTheWeakestAndLeavesEachLayerItsBest) {
  const auto model = tiny_model(tiny_llama());
  const auto first = model->structure().layers[0];
  for (const auto& matrix : {first.mlp_inputs[0], first.mlp_inputs[1], first.mlp_output}) {
    matrix->weight.mul_(1e-3);
  }
  const auto plan = plan_pruning(*model, {.shares = {{PrunablePart::kChannels, 0.5}}, .global = true});
  EXPECT_EQ(plan.channels.at(0).size(), 19);
  EXPECT_EQ(plan.channels.at(1).size(), 1);
}

TEST_F(PlanPruningTest, AGlobalChoiceOfGroupsTakesTheWeakestAndLeavesEachLayerItsBest) {
  auto config = tiny_llama();
  config.num_hidden_layers = 3;
  const auto model = tiny_model(config);
  scale_group(*model, 0, 0, 0.1);
  scale_group(*model, 0, 1, 0.2);
  scale_group(*model, 1, 0, 1e-3);
  scale_group(*model, 1, 1, 1e-2);
  const auto heads = [&](double share) {
    return plan_pruning(*model, {.shares = {{PrunablePart::kGroups, share}}, .global = true}).heads;
  };
  EXPECT_EQ(heads(0.17), (HeadsByLayer{{1, {0, 1}}}));
  EXPECT_EQ(heads(0.34), (HeadsByLayer{{0, {0, 1}}, {1, {0, 1}}}));
  EXPECT_EQ(heads(0.99).size(), 3U);
}

TEST_F(PlanPruningTest, LayersAndHiddenUnitsAreChosenByInfluence) {
  auto config = tiny_llama();
  config.num_hidden_layers = 4;
  const auto model = tiny_model(config);
  model->structure().layers[2].attention_output->weight.zero_();
  model->structure().layers[2].mlp_output->weight.zero_();
  const auto plan = plan_pruning(*model, {.shares = {{PrunablePart::kLayers, 0.25}, {PrunablePart::kHiddenUnits, 0.5}},
                                          .importance = calibrated(PruningCriterion::kActivation)});
  EXPECT_EQ(plan.layers, Numbers{2});
  EXPECT_EQ(plan.hidden_units.size(), 12);
}

TEST_F(PlanPruningTest, RefusesSharesThatMakeNoSense) {
  const auto model = tiny_model(tiny_llama());
  EXPECT_ERROR(plan_pruning(*model, {.shares = {{PrunablePart::kChannels, 1.0}}}), "[0, 1)", "got 1");
  EXPECT_ERROR(plan_pruning(*model, {.shares = {{PrunablePart::kChannels, -0.5}}}), "[0, 1)", "got -0.5");
  EXPECT_ERROR(plan_pruning(*model, {.shares = {{PrunablePart::kLayers, 0.5}}, .global = true}), "groups and channels");
  EXPECT_ERROR(plan_pruning(*model, {.shares = {{PrunablePart::kHeads, 0.5}, {PrunablePart::kGroups, 0.5}}}),
               "not both");
}

}  // namespace
}  // namespace transformers::testing
