#include <ATen/ATen.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/model_pruning/pruning_plan.h>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

class PruningPlanTest : public ::testing::Test {
 protected:
  PruningPlanTest() {
    plan_.heads = {{1, {2, 3}}};
    plan_.channels = {{0, {4, 1}}, {1, {19}}};
    plan_.layers = {0};
    plan_.hidden_units = {0, 2, 4, 6};
    for (int64_t id = 0; id < 20; ++id) {
      plan_.vocabulary.push_back(id);
    }
  }
  /// The plan with one thing changed.
  template <typename Change>
  PruningPlan changed(const Change& change) const {
    auto plan = plan_;
    change(plan);
    return plan;
  }

  const std::shared_ptr<CausalLM> model_ = tiny_model(tiny_llama());
  PruningPlan plan_ = PruningPlan::for_model(*model_);
};

TEST_F(PruningPlanTest, KnowsTheModelItIsFor) {
  EXPECT_EQ(plan_.model.model_type, "llama");
  EXPECT_EQ(plan_.model.vocab_size, 40);
  EXPECT_EQ(plan_.model.hidden_size, 24);
  EXPECT_EQ(plan_.model.heads, (std::vector<int64_t>{4, 4}));
  EXPECT_EQ(plan_.model.key_value_heads, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(plan_.model.channels, (std::vector<int64_t>{20, 20}));
  EXPECT_TRUE(PruningPlan::for_model(*model_).empty());
  EXPECT_FALSE(plan_.empty());
}

TEST_F(PruningPlanTest, ComesBackFromItsFile) {
  const TemporaryFolder folder;
  plan_.save(folder / "plan.json");
  const auto loaded = PruningPlan::load(folder / "plan.json");
  EXPECT_EQ(loaded.to_json(), plan_.to_json());
  EXPECT_EQ(loaded.heads, plan_.heads);
  EXPECT_EQ(loaded.channels, plan_.channels);
  EXPECT_EQ(loaded.vocabulary, plan_.vocabulary);
  loaded.check(*model_);
  prune_model(*model_, loaded);
  EXPECT_EQ(model_->config().get_num_hidden_layers(), 1);
}

TEST_F(PruningPlanTest, PrintsALineAKindAndLayer) {
  EXPECT_EQ(plan_.to_string(),
            "plan for a llama model of 2 layers, 24 hidden units, 40 tokens\n"
            "layer 1: 2 of 4 heads go: 2, 3\n"
            "layer 0: 2 of 20 channels go: 4, 1\n"
            "layer 1: 1 of 20 channels go: 19\n"
            "1 layers go: 0\n"
            "4 hidden units go: 0, 2, 4, 6\n"
            "20 tokens stay: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, …\n");
}

TEST_F(PruningPlanTest, NumbersTokensByTheirPlace) {
  plan_.vocabulary = {0, 2, 5};
  const auto ids = plan_.new_token_ids();
  ASSERT_EQ(ids.size(), 40);
  EXPECT_EQ((std::vector<int64_t>{ids[0], ids[1], ids[2], ids[3], ids[5], ids[39]}),
            (std::vector<int64_t>{0, -1, 1, -1, 2, -1}));
}

TEST_F(PruningPlanTest, RefusesAnotherModel) {
  const auto refuses = [&](PreTrainedModel& model, std::string_view expected, std::string_view found) {
    const auto before = model.num_parameters();
    EXPECT_ERROR(prune_model(model, plan_), expected, found);
    EXPECT_ERROR(prune_model(model, plan_, PruningMode::kZero), expected, found);
    EXPECT_EQ(model.num_parameters(), before);
  };
  refuses(*tiny_model(tiny_gptj()), "a model of type llama", "of type gptj");
  const auto other = [&](const auto& change) {
    auto config = tiny_llama();
    change(config);
    return tiny_model(config);
  };
  refuses(*other([](auto& config) { config.vocab_size = 41; }), "a vocabulary of 40", "this model has 41");
  refuses(*other([](auto& config) { config.hidden_size = 32; }), "24 hidden units", "this model has 32");
  refuses(*other([](auto& config) { config.num_hidden_layers = 3; }), "2 layers", "this model has 3");
  refuses(*other([](auto& config) { config.num_attention_heads = 6; }), "4 heads in layer 0", "this model has 6");
  refuses(*other([](auto& config) { config.num_key_value_heads = 4; }), "2 key/value heads in layer 0",
          "this model has 4");
  refuses(*other([](auto& config) { config.intermediate_size = 21; }), "20 channels in layer 0", "this model has 21");
  model_->prune_heads({{1, {0, 1}}});
  refuses(*model_, "4 heads in layer 1", "this model has 2");
}

TEST_F(PruningPlanTest, RefusesNumbersThatMakeNoSenseAndChangesNothing) {
  const auto before = model_->forward({.input_ids = tiny_ids(1, 4)}).logits;
  const auto refused = [&](const auto& change, std::initializer_list<std::string_view> fragments) {
    EXPECT_TRUE(throws_error([&] { prune_model(*model_, changed(change)); }, fragments));
    EXPECT_TRUE(throws_error([&] { prune_model(*model_, changed(change), PruningMode::kZero); }, fragments));
  };
  refused([](auto& plan) { plan.heads = {{2, {0, 1}}}; }, {"heads: layers must be in [0, 2)", "got 2"});
  refused([](auto& plan) { plan.heads = {{0, {}}}; }, {"heads of layer 0", "empty"});
  refused([](auto& plan) { plan.heads = {{0, {0, 4}}}; }, {"heads of layer 0", "[0, 4)", "got 4"});
  refused([](auto& plan) { plan.heads = {{0, {1, 0, 1}}}; }, {"heads of layer 0", "1 is listed twice"});
  refused([](auto& plan) { plan.heads = {{0, {0, 1, 2, 3}}}; }, {"heads of layer 0", "all 4 would go"});
  refused([](auto& plan) { plan.channels = {{-1, {0}}}; }, {"channels: layers must be in [0, 2)", "got -1"});
  refused([](auto& plan) { plan.channels = {{0, {}}}; }, {"channels of layer 0", "empty"});
  refused([](auto& plan) { plan.channels[1] = {20}; }, {"channels of layer 1", "[0, 20)", "got 20"});
  refused([](auto& plan) { plan.channels[1] = {-1}; }, {"channels of layer 1", "[0, 20)", "got -1"});
  refused([](auto& plan) { plan.channels[1] = {3, 3}; }, {"channels of layer 1", "3 is listed twice"});
  refused([](auto& plan) { plan.layers = {0, 1}; }, {"layers: all 2 would go"});
  refused([](auto& plan) { plan.layers = {2}; }, {"layers", "[0, 2)", "got 2"});
  refused([](auto& plan) { plan.layers = {1, 1}; }, {"layers", "1 is listed twice"});
  refused([](auto& plan) { plan.hidden_units = {24}; }, {"hidden_units", "[0, 24)", "got 24"});
  refused([](auto& plan) { plan.vocabulary = {0, 1, 2, 40}; }, {"vocabulary", "[0, 40)", "got 40"});
  refused([](auto& plan) { plan.vocabulary = {0, 2, 1}; }, {"vocabulary", "must ascend", "got 1 after 2"});
  refused([](auto& plan) { plan.vocabulary = {0, 1, 1, 2}; }, {"vocabulary", "must ascend", "got 1 after 1"});
  refused([](auto& plan) { plan.vocabulary = {0, 1, 3}; }, {"token 2 must stay", "eos_token_id of the config"});
  EXPECT_TENSORS_EQUAL(model_->forward({.input_ids = tiny_ids(1, 4)}).logits, before);
  EXPECT_EQ(model_->config().to_json(), tiny_model(tiny_llama())->config().to_json());
}

TEST_F(PruningPlanTest, RefusesATokenThatGenerationNeeds) {
  model_->generation_config.forced_bos_token_id = 30;
  EXPECT_ERROR(plan_.check(*model_), "token 30 must stay", "forced_bos_token_id of the generation config");
}

TEST_F(PruningPlanTest, RefusesHeadsThatAreGone) {
  model_->prune_heads({{0, {0, 1}}});
  auto plan = PruningPlan::for_model(*model_);
  plan.heads = {{0, {1}}};
  EXPECT_ERROR(plan.check(*model_), "heads of layer 0", "head 1 is gone already");
  plan.heads = {{0, {2, 3}}};
  EXPECT_ERROR(plan.check(*model_), "heads of layer 0", "all 2 would go");
}

TEST_F(PruningPlanTest, RefusesToRemoveWhatLeavesNoModelButZeroesIt) {
  const auto odd_heads = changed([](auto& plan) { plan.heads = {{0, {0}}}; });
  EXPECT_ERROR(odd_heads.check(*model_), "no valid model", "layer 0", "each key/value head");
  const auto odd_units = changed([](auto& plan) { plan.hidden_units = {0}; });
  EXPECT_ERROR(odd_units.check(*model_), "no valid model", "hidden_size must be divisible", "got 23 and 4");
  odd_heads.check(*model_, PruningMode::kZero);
  odd_units.check(*model_, PruningMode::kZero);
}

TEST(PruningPlanJsonTest, RefusesWhatIsNoPlan) {
  const std::string sizes =
      R"("model": {"model_type": "llama", "vocab_size": 4, "hidden_size": 2, "heads": [1], "key_value_heads": [1], "channels": [3]})";
  const auto read = [&](const std::string& rest) {
    return PruningPlan::from_json("{" + sizes + rest + "}", "plan.json");
  };
  EXPECT_EQ(read(R"(, "layers": [1])").layers, std::vector<int64_t>{1});
  EXPECT_ERROR(PruningPlan::from_json("[]", "plan.json"), "plan.json", "JSON object");
  EXPECT_ERROR(PruningPlan::from_json("{}", "plan.json"), "plan.json", "\"model\"");
  EXPECT_ERROR(PruningPlan::from_json("{\"model\": 3}", "plan.json"), "plan.json: model", "JSON object");
  EXPECT_ERROR(read(R"(, "layer": [1])"), "plan.json", "unknown key \"layer\"");
  EXPECT_ERROR(read(R"(, "layers": 1)"), "plan.json", "\"layers\"", "a list of integers");
  EXPECT_ERROR(read(R"(, "layers": [1.5])"), "plan.json", "\"layers\"");
  EXPECT_ERROR(read(R"(, "layers": ["1"])"), "plan.json", "\"layers\"");
  EXPECT_ERROR(read(R"(, "heads": [1])"), "plan.json", "\"heads\"", "by layer");
  EXPECT_ERROR(read(R"(, "heads": {"x": [1]})"), "plan.json: heads", "number of a layer", "\"x\"");
  EXPECT_ERROR(read(R"(, "channels": {"0": 1})"), "plan.json: channels", "\"0\"", "a list of integers");
  EXPECT_ERROR(read(R"(, "layers": [1], "layers": [2])"), "plan.json", "layers");
  const TemporaryFolder folder;
  EXPECT_ERROR(PruningPlan::load(folder / "none.json"), "none.json");
}

}  // namespace
}  // namespace transformers::testing
