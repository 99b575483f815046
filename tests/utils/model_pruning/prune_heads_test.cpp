#include <ATen/ATen.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/nn/linear_slices.h>
#include <transformers/utils/nn/packed_linear.h>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

using Heads = std::vector<int64_t>;

/// Six query heads on three key/value heads of size 4, not hidden / heads.
LlamaConfig six_heads() {
  auto config = tiny_llama();
  config.num_attention_heads = 6;
  config.num_key_value_heads = 3;
  config.head_dim = 6;
  config.attention_bias = true;
  return config;
}

class PruneHeadsTest : public ::testing::Test {
 protected:
  static at::Tensor logits(CausalLM& model) { return model.forward({.input_ids = tiny_ids(2, 7)}).logits; }

  const at::NoGradGuard no_grad_;
};

TEST_F(PruneHeadsTest, AGroupTakesItsKeyValueHeadAlong) {
  const auto model = tiny_model(six_heads());
  const auto before = model->structure().layers[1];
  const auto key = before.key->weight.clone(), output = before.attention_output->weight.clone();
  const auto bias = before.attention_output->bias.clone(), query_bias = before.query->bias.clone();
  model->prune_heads({{1, {2, 3}}});
  const auto layer = model->structure().layers[1];
  EXPECT_EQ(layer.query->weight.sizes(), (at::IntArrayRef{24, 24}));
  EXPECT_TENSORS_EQUAL(layer.key->weight.detach(), at::cat({key.narrow(0, 0, 6), key.narrow(0, 12, 6)}));
  EXPECT_TENSORS_EQUAL(layer.query->bias.detach(),
                       at::cat({query_bias.narrow(0, 0, 12), query_bias.narrow(0, 24, 12)}));
  EXPECT_TENSORS_EQUAL(layer.attention_output->weight.detach(),
                       at::cat({output.narrow(1, 0, 12), output.narrow(1, 24, 12)}, 1));
  EXPECT_TENSORS_EQUAL(layer.attention_output->bias.detach(), bias);
  EXPECT_EQ(model->structure().layers[0].query->weight.size(0), 36);
  EXPECT_EQ(model->config().pruned_heads, (HeadsByLayer{{1, {2, 3}}}));
  EXPECT_EQ(model->config().num_heads_left(1), 4);
  EXPECT_EQ(model->config().num_key_value_heads_left(1), 2);
}

TEST_F(PruneHeadsTest, OneQueryHeadOfEachGroupLeavesKeysAndValues) {
  const auto model = tiny_model(six_heads());
  const auto key = model->structure().layers[0].key->weight.clone();
  model->prune_heads({{0, {0, 3, 4}}});
  EXPECT_EQ(model->structure().layers[0].query->weight.size(0), 18);
  EXPECT_TENSORS_EQUAL(model->structure().layers[0].key->weight.detach(), key);
  EXPECT_EQ(model->config().num_key_value_heads_left(0), 3);
}

TEST_F(PruneHeadsTest, NumbersAreThoseBeforeAnyWasPrunedAndGoneHeadsAreSkipped) {
  const auto at_once = tiny_model(six_heads()), in_steps = tiny_model(six_heads());
  at_once->prune_heads({{0, {0, 1, 4, 5}}, {1, {2, 3}}});
  in_steps->prune_heads({{0, {0, 1}}});
  in_steps->prune_heads({{1, {2, 3}}, {0, {0, 1, 4, 5}}});
  in_steps->prune_heads({{0, {4}}});
  EXPECT_EQ(in_steps->config().pruned_heads, at_once->config().pruned_heads);
  EXPECT_TENSORS_EQUAL(logits(*in_steps), logits(*at_once));
}

TEST_F(PruneHeadsTest, PrunedModelsRunCachedWithEveryKernel) {
  const auto ids = tiny_ids(2, 7);
  auto gptj = tiny_gptj();
  for (const auto& config : std::vector<std::shared_ptr<PretrainedConfig>>{six_heads().copy(), gptj.copy()}) {
    const auto model = tiny_model(*config);
    model->prune_heads({{0, config->model_type() == "llama" ? Heads{0, 1} : Heads{1}}});
    model->set_attn_implementation(AttnImplementation::kEager);
    const auto expected = logits(*model);
    for (const auto implementation : {AttnImplementation::kSdpa, AttnImplementation::kFlash}) {
      model->set_attn_implementation(implementation);
      EXPECT_TENSORS_CLOSE(logits(*model), expected, {.relative = 1e-4, .absolute = 1e-5});
    }
    const auto first = model->forward({.input_ids = ids.narrow(1, 0, 4)});
    const auto second = model->forward({.input_ids = ids.narrow(1, 4, 3), .past_key_values = first.past_key_values});
    EXPECT_TENSORS_CLOSE(second.logits, expected.narrow(1, 4, 3), {.relative = 1e-4, .absolute = 1e-5});
  }
}

TEST_F(PruneHeadsTest, AHeadMaskSpeaksOfAllHeadsAsBeforePruning) {
  GPTJForCausalLM whole(tiny_gptj());
  whole->eval();
  auto pruned = std::dynamic_pointer_cast<GPTJForCausalLMImpl>(whole->clone());
  pruned->prune_heads({{0, {0}}});
  const auto mask = at::tensor({0.0F, 0.5F, 1.0F, 1.0F, 0.25F, 0.0F}).view({2, 3});
  const auto ids = tiny_ids(1, 5);
  EXPECT_TENSORS_CLOSE(pruned->forward({.input_ids = ids, .head_mask = mask}).logits,
                       whole->forward({.input_ids = ids, .head_mask = mask}).logits);
}

TEST_F(PruneHeadsTest, DtypeFrozenParametersAndProductsStayAsTheyWere) {
  auto config = six_heads();
  config.pretraining_tp = 2;
  const auto model = tiny_model(config, at::kDouble);
  auto query = model->structure().layers[0].query;
  query->weight.set_requires_grad(false);
  model->prune_heads({{0, {0, 1}}});
  EXPECT_FALSE(query->weight.requires_grad());
  EXPECT_TRUE(query->bias.requires_grad());
  EXPECT_EQ(query->weight.scalar_type(), at::kDouble);
  EXPECT_NE(dynamic_cast<const RowSlices*>(query->method().get()), nullptr);
}

TEST_F(PruneHeadsTest, PackedProductsArePackedAgain) {
  const auto model = tiny_model(six_heads());
  auto query = model->structure().layers[0].query;
  if (!PackedLinear::supports(query->weight)) {
    GTEST_SKIP() << "no packed products here";
  }
  query->set_method(std::make_shared<PackedLinear>(query->weight));
  const auto old = query->method();
  model->prune_heads({{0, {0, 1}}});
  EXPECT_NE(query->method(), nullptr);
  EXPECT_NE(query->method(), old);
}

TEST_F(PruneHeadsTest, HeadsOfEveryModelClassArePruned) {
  LlamaForSequenceClassification classifier(six_heads());
  classifier->prune_heads({{0, {4, 5}}});
  EXPECT_EQ(classifier->structure().layers[0].key->weight.size(0), 12);
  GPTJModel base(tiny_gptj());
  base->prune_heads({{1, {0, 2}}});
  EXPECT_EQ(base->structure().layers[1].query->weight.size(0), 8);
}

TEST_F(PruneHeadsTest, RefusesWhatCannotBeAndChangesNothing) {
  const auto model = tiny_model(six_heads());
  const auto before = logits(*model);
  EXPECT_ERROR(model->prune_heads({{2, {0, 1}}}), "layers must be in [0, 2)", "got 2");
  EXPECT_ERROR(model->prune_heads({{-1, {0, 1}}}), "layers must be in [0, 2)", "got -1");
  EXPECT_ERROR(model->prune_heads({{0, {0, 6}}}), "layer 0", "heads must be in [0, 6)", "got 6");
  EXPECT_ERROR(model->prune_heads({{0, {-1}}}), "layer 0", "heads must be in [0, 6)", "got -1");
  EXPECT_ERROR(model->prune_heads({{1, {}}}), "layer 1", "empty");
  EXPECT_ERROR(model->prune_heads({{1, {2, 3, 2}}}), "layer 1", "head 2", "twice");
  EXPECT_ERROR(model->prune_heads({{1, {0, 1, 2, 3, 4, 5}}}), "layer 1", "all 6 heads", "at least one");
  EXPECT_ERROR(model->prune_heads({{0, {0, 1}}, {1, {2}}}), "layer 1", "each key/value head", "got 1 and 2");
  EXPECT_ERROR(model->prune_heads({{1, {0, 1, 2}}}), "layer 1", "each key/value head", "got 1 and 2");
  EXPECT_TRUE(model->config().pruned_heads.empty());
  EXPECT_TENSORS_EQUAL(logits(*model), before);
  model->prune_heads({{1, {0, 1, 2, 3}}});
  EXPECT_ERROR(model->prune_heads({{1, {4, 5}}}), "layer 1", "all 6 heads");
}

TEST_F(PruneHeadsTest, RefusesSlicedProductsThatWouldNotDivide) {
  auto config = tiny_llama();
  config.num_attention_heads = 8;
  config.num_key_value_heads = 4;
  config.head_dim = 2;
  config.pretraining_tp = 4;
  const auto model = tiny_model(config);
  EXPECT_ERROR(model->prune_heads({{0, {0, 1}}}), "pretraining_tp", "key projection left");
}

TEST_F(PruneHeadsTest, RefusesAnAdaptedProduct) {
  struct Adapted : LinearMethod {
    torch::Tensor forward(const LinearImpl&, const torch::Tensor& input) const override { return input; }
  };
  const auto model = tiny_model(six_heads());
  model->structure().layers[1].mlp_output->set_method(std::make_shared<Adapted>());
  EXPECT_ERROR(model->prune_heads({{0, {0, 1}}}), "model.layers.1.mlp.down_proj", "adapted or quantised");
}

TEST_F(PruneHeadsTest, RefusesALayerThatIsNotWhatTheConfigSays) {
  const auto model = tiny_model(six_heads());
  keep_features(model->structure().layers[1].query, at::arange(24), 0);
  EXPECT_ERROR(model->prune_heads({{0, {0, 1}}, {1, {0, 1}}}), "layer 1 has 24 query and 18 key features", "36 and 18");
  EXPECT_TRUE(model->config().pruned_heads.empty());
}

TEST_F(PruneHeadsTest, LayersAreKeptByNumber) {
  auto config = tiny_llama();
  config.num_hidden_layers = 4;
  const auto model = tiny_model(config);
  model->prune_heads({{3, {0, 1}}});
  const auto last = model->structure().layers[3].mlp_output->weight;
  model->keep_layers({1, 3});
  EXPECT_EQ(model->config().get_num_hidden_layers(), 2);
  EXPECT_EQ(model->config().pruned_heads, (HeadsByLayer{{1, {0, 1}}}));
  EXPECT_TRUE(model->structure().layers[1].mlp_output->weight.is_same(last));
  const auto names = model->named_parameters().keys();
  EXPECT_NE(std::find(names.begin(), names.end(), "model.layers.1.mlp.down_proj.weight"), names.end());
  EXPECT_ERROR(model->keep_layers({}), "at least one");
  EXPECT_ERROR(model->keep_layers({2}), "[0, 2)", "got 2");
  EXPECT_ERROR(model->keep_layers({1, 0}), "ascend", "got 0 after 1");
}

}  // namespace
}  // namespace transformers::testing
