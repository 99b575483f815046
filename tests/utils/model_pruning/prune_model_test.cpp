#include <ATen/ATen.h>
#include <torch/nn/modules/normalization.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/model_pruning/pruning_plan.h>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

using Numbers = std::vector<int64_t>;

/// fp32: sums of fewer numbers are taken in another order.
constexpr Tolerance kSame{.relative = 1e-5, .absolute = 1e-5};

/// A plan of every kind but hidden units, whose norms average over all units. Three layers, heads in whole groups.
struct Kind {
  std::string name;
  std::function<void(PruningPlan&)> fill;
};

void take_heads(PruningPlan& plan) {
  const auto group = plan.model.heads[0] / plan.model.key_value_heads[0];
  if (plan.model.key_value_heads[0] == 1) {
    plan.heads = {{0, {0}}, {2, {2, 3}}};
    return;
  }
  for (const int64_t layer : {0, 2}) {
    for (int64_t head = group; head < 2 * group; ++head) {
      plan.heads[layer].push_back(head);
    }
  }
}
void take_channels(PruningPlan& plan) { plan.channels = {{0, {3, 0, 19}}, {1, {7}}}; }
void take_layers(PruningPlan& plan) { plan.layers = {1}; }
void take_tokens(PruningPlan& plan) {
  for (int64_t id = 0; id < plan.model.vocab_size; ++id) {
    if (id < 3 || id % 3 != 0) {
      plan.vocabulary.push_back(id);
    }
  }
}

std::vector<Kind> kinds() {
  return {{"heads", take_heads},
          {"channels", take_channels},
          {"layers", take_layers},
          {"tokens", take_tokens},
          {"everything", [](PruningPlan& plan) {
             take_heads(plan);
             take_channels(plan);
             take_layers(plan);
             take_tokens(plan);
           }}};
}

struct Case {
  NamedConfig config;
  Kind kind;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.config.name << " " << c.kind.name; }

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const auto& config : config_grid()) {
    auto three = config.config->copy();
    auto sizes = three->sizes();
    sizes.num_hidden_layers = 3;
    three->set_sizes(sizes);
    for (const auto& kind : kinds()) {
      all.push_back({{config.name, std::shared_ptr<PretrainedConfig>(three->copy())}, kind});
    }
  }
  return all;
}

class PruneModelTest : public ::testing::TestWithParam<Case> {
 protected:
  PruneModelTest() {
    plan_ = PruningPlan::for_model(*model_);
    GetParam().kind.fill(plan_);
    // Tokens that stay, in both numberings.
    ids_ = tiny_ids(2, 7) * 3 % 40;
    ids_ = at::where((ids_ >= 3).logical_and(ids_ % 3 == 0), ids_ - 1, ids_);
    const auto new_ids = plan_.new_token_ids();
    new_ids_ = new_ids.empty() ? ids_ : at::tensor(new_ids, at::kLong).index({ids_});
  }
  std::shared_ptr<CausalLM> copy() const { return std::dynamic_pointer_cast<CausalLM>(model_->clone()); }
  /// Scores of the tokens that stay.
  at::Tensor kept(const at::Tensor& logits) const {
    return plan_.vocabulary.empty() ? logits : logits.index_select(-1, at::tensor(plan_.vocabulary, at::kLong));
  }

  const std::shared_ptr<CausalLM> model_ = tiny_model(*GetParam().config.config);
  PruningPlan plan_;
  at::Tensor ids_, new_ids_;
};

TEST_P(PruneModelTest, RemovingWhatIsZeroKeepsTheOutputs) {
  const at::NoGradGuard no_grad;
  const auto original = model_->forward({.input_ids = ids_}).logits;
  const auto removed = copy();
  prune_model(*model_, plan_, PruningMode::kZero);
  prune_model(*removed, plan_);
  const auto masked = model_->forward({.input_ids = ids_}).logits;
  EXPECT_TENSORS_CLOSE(removed->forward({.input_ids = new_ids_}).logits, kept(masked), kSame);
  EXPECT_LT(removed->num_parameters(), model_->num_parameters());
  EXPECT_FALSE(masked.allclose(original, 1e-3, 1e-3)) << "what went did not matter: the test shows nothing";
}

TEST_P(PruneModelTest, CachedDecodingAfterRemovalMatchesTheMaskedModel) {
  const at::NoGradGuard no_grad;
  const auto removed = copy();
  prune_model(*model_, plan_, PruningMode::kZero);
  prune_model(*removed, plan_);
  const auto masked = kept(model_->forward({.input_ids = ids_}).logits);
  std::shared_ptr<Cache> cache = std::make_shared<DynamicCache>();
  for (int64_t step = 0; step < ids_.size(1); ++step) {
    const auto output = removed->forward({.input_ids = new_ids_.narrow(1, step, 1), .past_key_values = cache});
    EXPECT_TENSORS_CLOSE(output.logits, masked.narrow(1, step, 1), kSame);
  }
  EXPECT_EQ(cache->num_layers(), removed->config().get_num_hidden_layers());
}

TEST_P(PruneModelTest, GradientsFlowAndStepsLowerTheLoss) {
  prune_model(*model_, plan_);
  model_->train();
  double first = 0, last = 0;
  for (int step = 0; step < 5; ++step) {
    const auto loss = model_->forward({.input_ids = new_ids_, .use_cache = false}, {.labels = new_ids_}).loss;
    model_->zero_grad();
    loss.backward();
    const at::NoGradGuard no_grad;
    for (auto& parameter : model_->named_parameters()) {
      ASSERT_TRUE(parameter.value().grad().defined()) << parameter.key();
      ASSERT_EQ(parameter.value().grad().sizes(), parameter.value().sizes()) << parameter.key();
    }
    for (auto& parameter : model_->parameters()) {
      parameter.add_(parameter.grad(), -0.02);
    }
    last = loss.item<double>();
    first = step == 0 ? last : first;
  }
  EXPECT_LT(last, first);
}

TEST_P(PruneModelTest, ClonesOfPrunedModelsGiveTheSame) {
  const at::NoGradGuard no_grad;
  prune_model(*model_, plan_);
  model_->structure().layers.back().query->weight.set_requires_grad(false);
  const auto twin = copy();
  EXPECT_TENSORS_EQUAL(twin->forward({.input_ids = new_ids_}).logits, model_->forward({.input_ids = new_ids_}).logits);
  EXPECT_FALSE(twin->structure().layers.back().query->weight.requires_grad());
  EXPECT_TRUE(twin->structure().layers.back().key->weight.requires_grad());
  EXPECT_EQ(twin->config().to_json(), model_->config().to_json());
  EXPECT_EQ(twin->generation_config.to_json(), model_->generation_config.to_json());
}

INSTANTIATE_TEST_SUITE_P(, PruneModelTest, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.config.name + "_" + info.param.kind.name; });

class HiddenUnitsTest : public ::testing::TestWithParam<NamedConfig> {};

TEST_P(HiddenUnitsTest, GoFromEverythingThatReadsOrWritesThem) {
  const at::NoGradGuard no_grad;
  const auto model = tiny_model(*GetParam().config);
  const auto head_dim = model->config().sizes().head_dim;
  auto plan = PruningPlan::for_model(*model);
  plan.hidden_units = {0, 5, 11, 12, 13, 17, 20, 23};
  const auto kept = at::tensor({1, 2, 3, 4, 6, 7, 8, 9, 10, 14, 15, 16, 18, 19, 21, 22}, at::kLong);
  const auto before = std::dynamic_pointer_cast<CausalLM>(model->clone());
  prune_model(*model, plan);
  EXPECT_EQ(model->config().get_hidden_size(), 16);
  EXPECT_EQ(model->config().sizes().head_dim, head_dim);
  EXPECT_EQ(model->config().sizes().intermediate_size, 20);
  const auto old = before->structure().layers[1], now = model->structure().layers[1];
  EXPECT_TENSORS_EQUAL(now.query->weight, old.query->weight.index_select(1, kept));
  EXPECT_TENSORS_EQUAL(now.attention_output->weight, old.attention_output->weight.index_select(0, kept));
  EXPECT_TENSORS_EQUAL(now.mlp_output->weight, old.mlp_output->weight.index_select(0, kept));
  EXPECT_TENSORS_EQUAL(model->get_input_embeddings()->weight,
                       before->get_input_embeddings()->weight.index_select(1, kept));
  EXPECT_TENSORS_EQUAL(model->get_output_embeddings()->weight,
                       before->get_output_embeddings()->weight.index_select(1, kept));
  EXPECT_EQ(model->get_output_embeddings()->weight.is_same(model->get_input_embeddings()->weight),
            model->config().tie_word_embeddings);
  const auto output = model->forward({.input_ids = tiny_ids(2, 5), .output_hidden_states = true});
  EXPECT_EQ(output.hidden_states.back().size(-1), 16);
  EXPECT_TRUE(output.logits.isfinite().all().item<bool>());
  const auto twin = std::dynamic_pointer_cast<CausalLM>(model->clone());
  EXPECT_TENSORS_EQUAL(twin->forward({.input_ids = tiny_ids(2, 5)}).logits, output.logits);
}

TEST_P(HiddenUnitsTest, ThatAreZeroDoNotReachTheOutput) {
  const at::NoGradGuard no_grad;
  const auto model = tiny_model(*GetParam().config);
  auto plan = PruningPlan::for_model(*model);
  plan.hidden_units = {3, 4};
  prune_model(*model, plan, PruningMode::kZero);
  const auto output = model->forward({.input_ids = tiny_ids(2, 5), .output_hidden_states = true});
  for (const auto& states : output.hidden_states) {
    EXPECT_TENSORS_EQUAL(states.narrow(-1, 3, 2), at::zeros({2, 5, 2}));
  }
}

INSTANTIATE_TEST_SUITE_P(, HiddenUnitsTest, ::testing::ValuesIn(config_grid()),
                         [](const auto& info) { return info.param.name; });

TEST(PruneVocabularyTest, SpecialTokensAndListsFollow) {
  auto config = tiny_llama();
  config.pad_token_id = 4;
  config.bos_token_id = 6;
  config.eos_token_id = {8, 10};
  const auto model = tiny_model(config);
  auto& generation = model->generation_config;
  generation.forced_eos_token_id = {8};
  generation.suppress_tokens = {5, 6};
  generation.bad_words_ids = {{6, 8}, {6, 7}};
  generation.sequence_bias = {{{10}, 1.5}, {{9, 10}, 2.0}};
  auto plan = PruningPlan::for_model(*model);
  for (int64_t id = 0; id < 40; id += 2) {
    plan.vocabulary.push_back(id);
  }
  prune_model(*model, plan);
  EXPECT_EQ(model->config().vocab_size, 20);
  EXPECT_EQ(model->config().pad_token_id, 2);
  EXPECT_EQ(model->config().bos_token_id, 3);
  EXPECT_EQ(model->config().eos_token_id, (Numbers{4, 5}));
  EXPECT_EQ(model->get_input_embeddings()->options.padding_idx(), 2);
  EXPECT_EQ(generation.pad_token_id, 2);
  EXPECT_EQ(generation.forced_eos_token_id, Numbers{4});
  EXPECT_EQ(generation.suppress_tokens, Numbers{3});
  EXPECT_EQ(generation.bad_words_ids, (std::vector<Numbers>{{3, 4}}));
  ASSERT_EQ(generation.sequence_bias.size(), 1);
  EXPECT_EQ(generation.sequence_bias[0].first, Numbers{5});
}

TEST(PruneModelClassesTest, ClassifiersLoseHiddenUnitsOfTheirHeadToo) {
  const at::NoGradGuard no_grad;
  const auto config = tiny_gptj();
  GPTJForTokenClassification classifier(config);
  auto plan = PruningPlan::for_model(*classifier);
  plan.hidden_units = {1};
  prune_model(*classifier, plan);
  EXPECT_EQ(classifier->score->weight.sizes(), (at::IntArrayRef{2, 23}));
  classifier->eval();
  EXPECT_EQ(classifier->forward({.input_ids = tiny_ids(1, 3)}).logits.sizes(), (at::IntArrayRef{1, 3, 2}));
}

TEST(CloneTest, KeepsShapesTiesAndFrozenParametersThatNoConfigKnows) {
  const at::NoGradGuard no_grad;
  auto config = tiny_llama();
  config.mlp_bias = true;
  LlamaForCausalLM model(config);
  auto layer = model->structure().layers[0];
  for (auto& input : layer.mlp_inputs) {
    keep_features(input, at::arange(7), 0);
  }
  keep_features(layer.mlp_output, at::arange(7), 1);
  layer.mlp_output->bias.set_requires_grad(false);
  model->lm_head->tie_weight(model->model->embed_tokens->weight);
  model->train();
  model->model->layers->ptr<LlamaDecoderLayerImpl>(1)->eval();
  const auto twin = std::dynamic_pointer_cast<LlamaForCausalLMImpl>(model->clone());
  EXPECT_TENSORS_EQUAL(twin->forward({.input_ids = tiny_ids(1, 4)}).logits,
                       model->forward({.input_ids = tiny_ids(1, 4)}).logits);
  EXPECT_TRUE(twin->lm_head->weight.is_same(twin->model->embed_tokens->weight));
  EXPECT_FALSE(twin->lm_head->weight.is_alias_of(model->lm_head->weight));
  EXPECT_FALSE(twin->structure().layers[0].mlp_output->bias.requires_grad());
  EXPECT_TRUE(twin->structure().layers[0].mlp_output->weight.requires_grad());
  EXPECT_TRUE(twin->is_training());
  EXPECT_FALSE(twin->model->layers->ptr<LlamaDecoderLayerImpl>(1)->is_training());
}

TEST(CloneTest, KeepsTheWayToMultiply) {
  auto config = tiny_llama();
  config.pretraining_tp = 2;
  LlamaForCausalLM model(config);
  const auto twin = std::dynamic_pointer_cast<LlamaForCausalLMImpl>(model->clone());
  EXPECT_EQ(twin->lm_head->method(), model->lm_head->method());
  model->lm_head->set_method(nullptr);
  EXPECT_EQ(std::dynamic_pointer_cast<LlamaForCausalLMImpl>(model->clone())->lm_head->method(), nullptr);
}

}  // namespace
}  // namespace transformers::testing
