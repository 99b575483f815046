#include <ATen/ATen.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/utils/nn/linear_slices.h>
#include <transformers/utils/nn/packed_linear.h>
#include <transformers/utils/optim/parameter_groups.h>
#include <transformers/utils/peft/peft_model.h>

#include <algorithm>
#include <limits>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

/// Random matrices in place of those that make a fresh adapter do nothing.
LoraConfig wild(LoraConfig config = {}) {
  config.init_lora_weights = LoraInit::kRandom;
  return config;
}

at::Tensor logits_of(const CausalLM& model) {
  const at::NoGradGuard no_grad;
  return const_cast<CausalLM&>(model).forward({.input_ids = tiny_ids(2, 6)}).logits;
}

std::vector<std::string> names_of(const StateDict& state) { return state.keys(); }

/// The largest difference is this large at least.
bool differ(const at::Tensor& first, const at::Tensor& second) {
  return (first - second).abs().max().item<double>() > 1e-3;
}

std::vector<std::string> adapted_modules(const PeftModel& adapters, const std::string& name = "default") {
  std::vector<std::string> modules;
  const std::string prefix = "base_model.model.", end = ".lora_A.weight";
  for (const auto& key : adapters->get_peft_model_state_dict(name).keys()) {
    if (key.ends_with(end)) {
      modules.push_back(key.substr(prefix.size(), key.size() - prefix.size() - end.size()));
    }
  }
  return modules;
}

class PeftModelTest : public ::testing::Test {
 protected:
  std::shared_ptr<CausalLM> model = tiny_model(tiny_llama());
  at::Tensor base = logits_of(*model);
  PeftModel adapters{model};
};

TEST_F(PeftModelTest, AFreshAdapterChangesNoOutputAndNoNameOfTheModel) {
  const auto names = names_of(state_dict(*model));
  adapters->add_adapter("default");
  EXPECT_TENSORS_EQUAL(logits_of(*model), base);
  EXPECT_EQ(names_of(state_dict(*model)), names);
}

TEST_F(PeftModelTest, OnlyTheAdapterIsTrained) {
  adapters->add_adapter("default", {.r = 2});
  for (const auto& parameter : model->parameters()) {
    EXPECT_FALSE(parameter.requires_grad());
  }
  EXPECT_EQ(trainable_parameters(*adapters).size(), 8U);  // two layers, two projections, A and B
}

TEST_F(PeftModelTest, FreshValuesHangOnTheSeedAlone) {
  adapters->add_adapter("first", wild());
  at::rand({7});
  adapters->add_adapter("same", wild());
  adapters->add_adapter("other", wild(), {.seed = 43});
  const auto first = adapters->get_peft_model_state_dict("first");
  for (const auto& item : adapters->get_peft_model_state_dict("same")) {
    EXPECT_TENSORS_EQUAL(item.value(), first[item.key()]);
  }
  const auto key = first.keys().front();
  EXPECT_TRUE(differ(adapters->get_peft_model_state_dict("other")[key], first[key]));
}

TEST_F(PeftModelTest, AddingAnAdapterDrawsNoNumberOfTheModels) {
  at::manual_seed(1);
  const auto expected = at::rand({3});
  at::manual_seed(1);
  adapters->add_adapter("default", wild());
  EXPECT_TENSORS_EQUAL(at::rand({3}), expected);
}

TEST_F(PeftModelTest, ALaterAdapterWaitsForSetAdapter) {
  adapters->add_adapter("a", wild());
  const auto with_a = logits_of(*model);
  adapters->add_adapter("b", wild(), {.seed = 1});
  EXPECT_TENSORS_EQUAL(logits_of(*model), with_a);
  EXPECT_EQ(adapters->active_adapters(), std::vector<std::string>{"a"});
  adapters->set_adapter({"b"});
  EXPECT_TRUE(differ(logits_of(*model), with_a));
  adapters->set_adapter({"a"});
  EXPECT_TENSORS_EQUAL(logits_of(*model), with_a);
}

TEST_F(PeftModelTest, OnlyActiveAdaptersAreTrained) {
  adapters->add_adapter("a", {.r = 2});
  adapters->add_adapter("b", {.r = 2, .target_modules = {.names = {"o_proj"}}});
  adapters->set_adapter({"b"});
  EXPECT_EQ(trainable_parameters(*adapters).size(), 4U);
  adapters->set_adapter({"a", "b"});
  EXPECT_EQ(trainable_parameters(*adapters).size(), 12U);
}

TEST_F(PeftModelTest, SwitchedOffTheModelIsWhatItWas) {
  adapters->add_adapter("default", wild({.modules_to_save = {"lm_head"}}));
  for (auto& parameter : trainable_parameters(*adapters)) {
    parameter.detach().mul_(2);
  }
  const auto adapted = logits_of(*model);
  {
    const DisableAdapter off(*adapters);
    EXPECT_TENSORS_EQUAL(logits_of(*model), base);
    EXPECT_FALSE(adapters->adapters_enabled());
  }
  EXPECT_TENSORS_EQUAL(logits_of(*model), adapted);
}

TEST_F(PeftModelTest, MergedWeightsGiveTheSameAndComeBack) {
  adapters->add_adapter("default", wild({.target_modules = {.regex = "all-linear"}, .use_dora = true}));
  for (auto& parameter : trainable_parameters(*adapters)) {
    parameter.detach().mul_(1.5);
  }
  const auto adapted = logits_of(*model);
  const auto weight = state_dict(*model)["model.layers.0.mlp.up_proj.weight"].clone();
  adapters->merge_adapter();
  EXPECT_TRUE(adapters->merged());
  EXPECT_TRUE(tensors_close_to_largest(logits_of(*model), adapted, 1e-5));
  EXPECT_TRUE(differ(state_dict(*model)["model.layers.0.mlp.up_proj.weight"], weight));
  adapters->unmerge_adapter();
  EXPECT_FALSE(adapters->merged());
  EXPECT_TRUE(tensors_close_to_largest(state_dict(*model)["model.layers.0.mlp.up_proj.weight"], weight, 1e-6));
  EXPECT_TRUE(tensors_close_to_largest(logits_of(*model), adapted, 1e-5));
}

TEST_F(PeftModelTest, SwitchingOffUnmerges) {
  adapters->add_adapter("default", wild());
  adapters->merge_adapter();
  const DisableAdapter off(*adapters);
  EXPECT_TRUE(tensors_close_to_largest(logits_of(*model), base, 1e-5));
}

TEST_F(PeftModelTest, UnloadGivesThePlainModelBack) {
  adapters->add_adapter("default", wild({.modules_to_save = {"lm_head"}}));
  adapters->unload();
  EXPECT_TENSORS_EQUAL(logits_of(*model), base);
  EXPECT_TRUE(adapters->adapter_names().empty());
  for (const auto& module : model->modules()) {
    if (const auto* linear = dynamic_cast<const LinearImpl*>(module.get())) {
      EXPECT_EQ(linear->method(), nullptr);
    }
  }
  adapters->add_adapter("again");
  EXPECT_TENSORS_EQUAL(logits_of(*model), base);
}

TEST_F(PeftModelTest, DeletingTheActiveAdapterActivatesAnother) {
  adapters->add_adapter("a", wild());
  adapters->add_adapter("b");
  adapters->delete_adapter("a");
  EXPECT_EQ(adapters->active_adapters(), std::vector<std::string>{"b"});
  EXPECT_TENSORS_EQUAL(logits_of(*model), base);
  adapters->delete_adapter("b");
  EXPECT_TRUE(adapters->active_adapters().empty());
  EXPECT_TENSORS_EQUAL(logits_of(*model), base);
}

TEST_F(PeftModelTest, DropoutActsInTrainingAlone) {
  adapters->add_adapter("default", wild({.lora_dropout = 0.5}));
  const auto evaluated = logits_of(*model);
  EXPECT_TENSORS_EQUAL(logits_of(*model), evaluated);
  adapters->train();
  EXPECT_TRUE(differ(logits_of(*model), evaluated));
}

TEST_F(PeftModelTest, EachAdapterTrainsItsOwnCopyOfAModuleToSave) {
  adapters->add_adapter("a", {.modules_to_save = {"lm_head"}});
  adapters->add_adapter("b", {.modules_to_save = {"lm_head"}});
  const auto train = [&](double factor) {
    const at::NoGradGuard no_grad;
    for (auto& item : adapters->named_parameters()) {
      if (item.key() == "base_model.lm_head.weight") {
        EXPECT_TRUE(item.value().requires_grad());
        item.value().mul_(factor);
      }
    }
  };
  train(2);
  EXPECT_TENSORS_CLOSE(logits_of(*model), 2 * base);
  adapters->set_adapter({"b"});
  train(3);
  EXPECT_TENSORS_CLOSE(logits_of(*model), 3 * base);
  adapters->set_adapter({"a"});
  EXPECT_TENSORS_CLOSE(logits_of(*model), 2 * base);
  EXPECT_ERROR(adapters->set_adapter({"a", "b"}), "\"a\"", "\"b\"", "lm_head.weight");
}

TEST_F(PeftModelTest, CheckpointedBlocksGiveTheSameGradients) {
  adapters->add_adapter("default", wild({.lora_dropout = 0.3}));
  adapters->train();
  const auto gradients = [&] {
    at::manual_seed(5);
    const auto ids = tiny_ids(2, 6);
    model->forward({.input_ids = ids, .use_cache = false}, {.labels = ids}).loss.backward();
    std::vector<at::Tensor> found;
    for (auto& parameter : trainable_parameters(*adapters)) {
      found.push_back(parameter.grad().clone());
      parameter.mutable_grad().reset();
    }
    return found;
  };
  const auto expected = gradients();
  model->gradient_checkpointing_enable();
  const auto actual = gradients();
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    EXPECT_TENSORS_CLOSE(actual[i], expected[i]);
  }
}

TEST_F(PeftModelTest, WorksOnTopOfSlicedAndPackedWeights) {
  auto config = tiny_llama();
  config.pretraining_tp = 2;
  const auto sliced = tiny_model(config);
  load_state_dict(*sliced, state_dict(*model));
  PeftModel on_slices(sliced);
  on_slices->add_adapter("default", wild());
  adapters->add_adapter("default", wild());
  const auto expected = logits_of(*model);
  EXPECT_TRUE(tensors_close_to_largest(logits_of(*sliced), expected, 1e-5));
  on_slices->merge_adapter();
  EXPECT_TRUE(tensors_close_to_largest(logits_of(*sliced), expected, 1e-5));
}

TEST(PeftPackedTest, AMergedPackedWeightIsPackedAgain) {
  if (!PackedLinear::supports(at::empty({2, 2}))) {
    GTEST_SKIP() << "this machine packs no weights";
  }
  const auto model = tiny_model(tiny_gptj());
  for (const auto& module : model->modules()) {
    if (auto* linear = dynamic_cast<LinearImpl*>(module.get())) {
      linear->set_method(std::make_shared<PackedLinear>(linear->weight));
    }
  }
  PeftModel adapters(model);
  adapters->add_adapter("default", wild({.target_modules = {.regex = "all-linear"}}));
  const auto expected = logits_of(*model);
  adapters->merge_adapter();
  EXPECT_TRUE(tensors_close_to_largest(logits_of(*model), expected, 1e-5));
}

TEST_F(PeftModelTest, HalfPrecisionModelsGetAdaptersInFullPrecision) {
  const auto half = tiny_model(tiny_llama(), at::kBFloat16);
  PeftModel on_half(half);
  on_half->add_adapter("default", wild());
  on_half->add_adapter("half", wild(), {.autocast_adapter_dtype = false});
  EXPECT_EQ(on_half->get_peft_model_state_dict().front().value().scalar_type(), at::kFloat);
  EXPECT_EQ(on_half->get_peft_model_state_dict("half").front().value().scalar_type(), at::kBFloat16);
  EXPECT_EQ(logits_of(*half).scalar_type(), at::kBFloat16);
}

TEST_F(PeftModelTest, CastsMoveModelAndAdaptersTogether) {
  adapters->add_adapter("a", wild({.modules_to_save = {"lm_head"}}));
  adapters->add_adapter("b", wild({.modules_to_save = {"lm_head"}}), {.seed = 1});
  adapters->set_adapter({"b"});
  const auto expected = logits_of(*model);
  adapters->set_adapter({"a"});
  adapters->to(at::kDouble);
  adapters->set_adapter({"b"});
  EXPECT_EQ(logits_of(*model).scalar_type(), at::kDouble);
  EXPECT_TRUE(tensors_close_to_largest(logits_of(*model), expected.to(at::kDouble), 1e-5));
}

TEST(PeftTiedTest, AModuleToSaveGetsAWeightOfItsOwn) {
  auto config = tiny_llama();
  config.tie_word_embeddings = true;
  const auto model = tiny_model(config);
  const auto base = logits_of(*model);
  PeftModel adapters(model);
  adapters->add_adapter("default", {.modules_to_save = {"lm_head"}});
  EXPECT_TENSORS_EQUAL(logits_of(*model), base);
  {
    const at::NoGradGuard no_grad;
    model->get_output_embeddings()->weight.mul_(2);
  }
  EXPECT_TENSORS_CLOSE(logits_of(*model), 2 * base);  // the embeddings did not follow
  adapters->unload();
  EXPECT_TENSORS_EQUAL(logits_of(*model), base);
  EXPECT_TRUE(model->get_output_embeddings()->weight.is_same(model->get_input_embeddings()->weight));
}

TEST(PeftTiedTest, RefusesWhatWouldChangeTheOtherWeightToo) {
  auto config = tiny_llama();
  config.tie_word_embeddings = true;
  const auto model = tiny_model(config);
  PeftModel adapters(model);
  EXPECT_ERROR(adapters->add_adapter("a", {.modules_to_save = {"lm_head"}, .ensure_weight_tying = true}),
               "lm_head.weight", "tied", "ensure_weight_tying");
  adapters->add_adapter("b", wild({.target_modules = {.names = {"lm_head"}}}));
  EXPECT_ERROR(adapters->merge_adapter(), "lm_head", "tied");
}

/// A product that this library's adapters know nothing about.
class Foreign : public LinearMethod {
 public:
  torch::Tensor forward(const LinearImpl&, const torch::Tensor& input) const override { return input; }
};

TEST_F(PeftModelTest, RefusesAProductItDoesNotKnow) {
  for (const auto& item : model->named_modules()) {
    if (item.key() == "model.layers.1.self_attn.q_proj") {
      dynamic_cast<LinearImpl&>(*item.value()).set_method(std::make_shared<Foreign>());
    }
  }
  EXPECT_ERROR(adapters->add_adapter("default"), "model.layers.1.self_attn.q_proj",
               "plain, sliced, packed or quantised");
}

struct Choice {
  LoraConfig config;
  std::vector<std::string> modules;
};

TEST_F(PeftModelTest, ChoosesModulesAsPeft) {
  const std::string first = "model.layers.0.", second = "model.layers.1.";
  const std::vector<Choice> choices{
      {{},
       {first + "self_attn.q_proj", first + "self_attn.v_proj", second + "self_attn.q_proj",
        second + "self_attn.v_proj"}},
      {{.target_modules = {.names = {"mlp.up_proj"}}}, {first + "mlp.up_proj", second + "mlp.up_proj"}},
      {{.target_modules = {.names = {"proj", second + "mlp.up_proj"}}}, {second + "mlp.up_proj"}},
      {{.target_modules = {.names = {"up_proj"}}, .exclude_modules = {.regex = ".*0.*"}}, {second + "mlp.up_proj"}},
      {{.target_modules = {.regex = R"(.*\.(up|gate)_proj)"}, .exclude_modules = {.names = {"up_proj"}}},
       {first + "mlp.gate_proj", second + "mlp.gate_proj"}},
      {{.target_modules = {.names = {"up_proj"}}, .layers_to_transform = {1}}, {second + "mlp.up_proj"}},
      {{.target_modules = {.names = {"up_proj"}}, .layers_to_transform = {0, 7}, .layers_pattern = {"h", "layers"}},
       {first + "mlp.up_proj"}},
      {{.target_modules = {.names = {"up_proj", "lm_head"}},
        .modules_to_save = {"lm_head"},
        .layers_to_transform = {0}},
       {first + "mlp.up_proj"}},
  };
  int64_t number = 0;
  for (const auto& [config, modules] : choices) {
    const auto name = std::to_string(number++);
    adapters->add_adapter(name, config);
    EXPECT_EQ(adapted_modules(adapters, name), modules) << name;
  }
}

TEST_F(PeftModelTest, AllLinearLeavesTheOutputLayerOut) {
  adapters->add_adapter("default", {.target_modules = {.regex = "all-linear"}});
  const auto modules = adapted_modules(adapters);
  EXPECT_EQ(modules.size(), 14U);
  EXPECT_EQ(std::count(modules.begin(), modules.end(), "lm_head"), 0);
}

// peft 0.21.2, get_pattern_key: the first key, in the order of the file, that matches the end of the name.
TEST_F(PeftModelTest, OfSeveralPatternsTheFirstOneCounts) {
  const auto rank_with = [&](const LoraConfig& config) {
    PeftModel other(tiny_model(tiny_llama()));
    other->add_adapter("default", config);
    return other->get_peft_model_state_dict()["base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"].size(0);
  };
  const LoraConfig config{.rank_pattern = {{"self_attn.q_proj", 5}, {"q_proj", 3}}};
  EXPECT_EQ(rank_with(config), 5);
  EXPECT_EQ(rank_with({.rank_pattern = {{"q_proj", 3}, {"self_attn.q_proj", 5}}}), 3);
  EXPECT_EQ(rank_with(LoraConfig::from_json(config.to_json())), 5);
  const auto text = R"({"alpha_pattern": {"self_attn.q_proj": 100, "q_proj": 3, ".*": 1.5}})";
  const auto read = LoraConfig::from_json(text);
  EXPECT_EQ(read.alpha_pattern[0].first, "self_attn.q_proj");
  EXPECT_EQ(LoraConfig::from_json(read.to_json()).alpha_pattern, read.alpha_pattern);
  EXPECT_ERROR(LoraConfig({.rank_pattern = {{"q", 1}, {"q", 2}}}).validate(), "rank_pattern", "\"q\" twice");
}

// What peft #2777 asks for: a config that says what the weights are.
TEST_F(PeftModelTest, AHeadThatWasUntiedIsSavedAsUntied) {
  const TemporaryFolder folder;
  auto config = tiny_llama();
  config.tie_word_embeddings = true;
  const auto tied = tiny_model(config);
  PeftModel over(tied);
  over->add_adapter("default", wild({.modules_to_save = {"lm_head"}}));
  {
    const at::NoGradGuard no_grad;
    tied->get_output_embeddings()->weight.mul_(2);
  }
  over->eval();
  const auto expected = logits_of(*tied);
  over->merge_and_unload();
  EXPECT_FALSE(tied->config().tie_word_embeddings);
  tied->tie_weights();
  EXPECT_TENSORS_CLOSE(logits_of(*tied), expected);
  tied->save_pretrained(folder / "merged");
  EXPECT_TENSORS_CLOSE(logits_of(*AutoModelForCausalLM::from_pretrained(folder / "merged")), expected);

  const auto again = tiny_model(config);
  PeftModel taken_off(again);
  taken_off->add_adapter("default", wild({.modules_to_save = {"lm_head"}}));
  taken_off->unload();
  EXPECT_TRUE(again->config().tie_word_embeddings);
}

TEST_F(PeftModelTest, PatternsSetRanksAndAlphas) {
  adapters->add_adapter("default", {.r = 2, .rank_pattern = {{"q_pr.j", 5}, {"layers.0.self_attn.v_proj", 3}}});
  const auto state = adapters->get_peft_model_state_dict();
  const auto rank = [&](const std::string& module) {
    return state["base_model.model.model.layers." + module + ".lora_A.weight"].size(0);
  };
  EXPECT_EQ(rank("0.self_attn.q_proj"), 5);
  EXPECT_EQ(rank("0.self_attn.v_proj"), 3);
  EXPECT_EQ(rank("1.self_attn.v_proj"), 2);
}

TEST_F(PeftModelTest, ErrorsNameWhatIsWrongAndChangeNothing) {
  EXPECT_ERROR(PeftModel(std::shared_ptr<torch::nn::Module>()), "needs a model");
  EXPECT_ERROR(adapters->add_adapter("", {}), "name must not be empty");
  EXPECT_ERROR(adapters->add_adapter("a.b", {}), "hold a dot", "a.b");
  EXPECT_ERROR(adapters->add_adapter("a", {.target_modules = {.names = {"query"}}}), "choose no module");
  EXPECT_ERROR(adapters->add_adapter("a", {.layers_to_transform = {9}}), "choose no module");
  EXPECT_ERROR(adapters->add_adapter("a", {.target_modules = {.names = {"embed_tokens"}}}), "model.embed_tokens",
               "Linear only");
  EXPECT_ERROR(adapters->add_adapter("a", {.target_modules = {.regex = "("}}), "target_modules", "compile");
  EXPECT_ERROR(adapters->add_adapter("a", {.modules_to_save = {"score"}}), "modules_to_save", "score");
  EXPECT_ERROR(adapters->add_adapter("a", {.r = 0}), "r must lie in", "0");
  EXPECT_ERROR(adapters->add_adapter("a", {.init_lora_weights = LoraInit::kEva}), "eva", "loaded");
  EXPECT_ERROR(adapters->set_adapter({"a"}), "no adapter \"a\"");
  EXPECT_ERROR(adapters->merge_adapter(), "no active adapter");
  EXPECT_TRUE(adapters->adapter_names().empty());
  for (const auto& parameter : model->parameters()) {
    EXPECT_TRUE(parameter.requires_grad());
  }

  adapters->add_adapter("a", wild({.bias = LoraBias::kAll}));
  EXPECT_ERROR(adapters->add_adapter("a"), "adapter \"a\" already");
  EXPECT_ERROR(adapters->add_adapter("b", {.bias = LoraBias::kLoraOnly}), "only one adapter", "biases");
  EXPECT_ERROR(adapters->set_adapter({"a", "a"}), "\"a\" twice");
  EXPECT_ERROR(PeftModel{model}, "adapters of another PeftModel");
  adapters->merge_adapter();
  EXPECT_ERROR(adapters->merge_adapter(), "merged already");
  EXPECT_ERROR(adapters->add_adapter("b"), "unmerge");
  EXPECT_ERROR(adapters->delete_adapter("a"), "unmerge");
}

TEST_F(PeftModelTest, AnAdapterThatIsNotFiniteIsNotMerged) {
  adapters->add_adapter("default", wild());
  const auto before = state_dict(*model)["model.layers.0.self_attn.q_proj.weight"].clone();
  adapters->get_peft_model_state_dict().back().value().fill_(std::numeric_limits<float>::quiet_NaN());
  EXPECT_ERROR(adapters->merge_adapter(), "default", "not finite", "model.layers.1.self_attn.v_proj");
  EXPECT_TENSORS_EQUAL(state_dict(*model)["model.layers.0.self_attn.q_proj.weight"], before);
}

TEST_F(PeftModelTest, ABiasOfTheAdapterNeedsOneOfTheLayerToMerge) {
  adapters->add_adapter("default", {.lora_bias = true});
  EXPECT_ERROR(adapters->merge_adapter(), "q_proj", "lora_bias", "without a bias");
}

}  // namespace
}  // namespace transformers::testing
