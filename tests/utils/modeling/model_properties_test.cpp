// What holds for every decoder, whatever its numbers.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/llama/modeling_llama.h>

#include "support/config_text.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

// Sums in another order, through two layers of weights ten times those of a fresh model.
constexpr Tolerance kReordered{.relative = 1e-5, .absolute = 1e-5};

class ModelPropertyTest : public ::testing::TestWithParam<NamedConfig> {
 protected:
  at::Tensor logits(const ModelInputs& inputs) const { return model_->forward(inputs).logits; }
  at::Tensor logits(const at::Tensor& ids) const { return logits(ModelInputs{.input_ids = ids}); }

  const at::NoGradGuard no_grad_;
  const std::shared_ptr<CausalLM> model_ = tiny_model(*GetParam().config);
  const at::Tensor ids_ = tiny_ids(2, 9);
};

TEST_P(ModelPropertyTest, CachedStepsGiveTheWholeForward) {
  const auto whole = logits(ids_);
  for (const auto& chunks : std::vector<std::vector<int64_t>>{{4, 1, 1, 1, 1, 1}, {3, 4, 2}}) {
    const std::vector<std::shared_ptr<Cache>> caches{std::make_shared<DynamicCache>(),
                                                     std::make_shared<StaticCache>(12)};
    for (const auto& cache : caches) {
      int64_t done = 0;
      for (const auto length : chunks) {
        const auto step = logits({.input_ids = ids_.narrow(1, done, length), .past_key_values = cache});
        EXPECT_TENSORS_CLOSE(step, whole.narrow(1, done, length), kReordered);
        done += length;
      }
      EXPECT_EQ(cache->get_seq_length(), 9);
    }
  }
}

TEST_P(ModelPropertyTest, EveryKernelAndPaddingGivesTheUnpaddedLogits) {
  const auto whole = logits(ids_);
  const auto padding = at::zeros({2, 3}, at::kLong), ones = at::ones_like(ids_);
  const auto positions = at::arange(9).expand({2, -1});
  for (const auto kernel : {AttnImplementation::kEager, AttnImplementation::kSdpa, AttnImplementation::kFlash}) {
    SCOPED_TRACE(attn_implementation_name(kernel));
    model_->set_attn_implementation(kernel);
    EXPECT_TENSORS_CLOSE(logits(ids_), whole, kReordered);
    const auto left = logits({.input_ids = at::cat({padding, ids_}, 1),
                              .attention_mask = at::cat({padding, ones}, 1),
                              .position_ids = at::cat({padding, positions}, 1)});
    EXPECT_TENSORS_CLOSE(left.narrow(1, 3, 9), whole, kReordered);
    const auto right =
        logits({.input_ids = at::cat({ids_, padding}, 1), .attention_mask = at::cat({ones, padding}, 1)});
    EXPECT_TENSORS_CLOSE(right.narrow(1, 0, 9), whole, kReordered);
  }
}

TEST_P(ModelPropertyTest, ALeftPaddedPromptGoesOnFromItsCache) {
  const auto padding = at::zeros({2, 3}, at::kLong);
  const auto whole = logits(ids_);
  const auto mask = at::cat({padding, at::ones_like(ids_)}, 1);
  const auto positions = at::cat({padding, at::arange(9).expand({2, -1})}, 1);
  const auto ids = at::cat({padding, ids_}, 1);
  for (const auto kernel : {AttnImplementation::kEager, AttnImplementation::kSdpa, AttnImplementation::kFlash}) {
    SCOPED_TRACE(attn_implementation_name(kernel));
    model_->set_attn_implementation(kernel);
    const std::vector<std::shared_ptr<Cache>> caches{
        std::make_shared<DynamicCache>(), std::make_shared<StaticCache>(12), std::make_shared<StaticCache>(20)};
    for (const auto& cache : caches) {
      int64_t done = 0;
      for (const int64_t length : {8, 2, 1, 1}) {
        const auto step = logits({.input_ids = ids.narrow(1, done, length),
                                  .attention_mask = mask.narrow(1, 0, done + length),
                                  .position_ids = positions.narrow(1, done, length),
                                  .past_key_values = cache});
        done += length;
        EXPECT_TENSORS_CLOSE(step.select(1, -1), whole.select(1, done - 4), kReordered);
      }
    }
  }
}

TEST_P(ModelPropertyTest, FlashAttentionReadsTheFilledPartOfAStaticCache) {
  const auto whole = logits(ids_);
  model_->set_attn_implementation(AttnImplementation::kFlash);
  const auto cache = std::make_shared<StaticCache>(20);
  int64_t done = 0;
  for (const int64_t length : {1, 4, 1, 3}) {
    const auto step = logits({.input_ids = ids_.narrow(1, done, length), .past_key_values = cache});
    EXPECT_TENSORS_CLOSE(step, whole.narrow(1, done, length), kReordered);
    done += length;
  }
}

TEST_P(ModelPropertyTest, ATokenChangesNothingBeforeIt) {
  auto changed = ids_.clone();
  changed.select(1, 5).copy_(changed.select(1, 5) % 39 + 1);
  const auto before = logits(ids_), after = logits(changed);
  EXPECT_TENSORS_CLOSE(after.narrow(1, 0, 5), before.narrow(1, 0, 5), kReordered);
  EXPECT_GT((after - before).select(1, 5).abs().max().item<double>(), 0.01);
}

TEST_P(ModelPropertyTest, WithoutCausalityTheLastTokenReachesTheFirst) {
  const auto config = AutoConfig::from_json(with_value(GetParam().config->to_json(), "is_causal", "false"));
  const auto both_ways = tiny_model(*config);
  auto changed = ids_.clone();
  changed.select(1, 8).copy_(changed.select(1, 8) % 39 + 1);
  for (const auto kernel : {AttnImplementation::kEager, AttnImplementation::kSdpa}) {
    both_ways->set_attn_implementation(kernel);
    const auto difference =
        both_ways->forward({.input_ids = ids_}).logits - both_ways->forward({.input_ids = changed}).logits;
    EXPECT_GT(difference.select(1, 0).abs().max().item<double>(), 0.001);
  }
}

TEST_P(ModelPropertyTest, RowsOfABatchDoNotSeeEachOther) {
  const auto whole = logits(ids_);
  EXPECT_TENSORS_CLOSE(logits(ids_.narrow(0, 1, 1)), whole.narrow(0, 1, 1), kReordered);
}

TEST_P(ModelPropertyTest, PackedTextsAreThoseOfSeparateRows) {
  const auto packed = ids_.view({1, 18});
  const auto positions = at::arange(9).repeat({2}).unsqueeze(0);
  for (const auto kernel : {AttnImplementation::kEager, AttnImplementation::kSdpa}) {
    model_->set_attn_implementation(kernel);
    const auto output = logits({.input_ids = packed, .position_ids = positions, .use_cache = false});
    EXPECT_TENSORS_CLOSE(output.view({2, 9, 40}), logits(ids_), kReordered);
  }
}

TEST_P(ModelPropertyTest, HiddenStatesAndAttentionsComeLayerByLayer) {
  const auto output = model_->forward({.input_ids = ids_, .output_attentions = true, .output_hidden_states = true});
  ASSERT_EQ(output.hidden_states.size(), 3);
  ASSERT_EQ(output.attentions.size(), 2);
  EXPECT_TENSORS_EQUAL(output.hidden_states[0], model_->get_input_embeddings()->forward(ids_));
  auto head = model_->get_output_embeddings();
  EXPECT_TENSORS_CLOSE(head->forward(output.hidden_states[2]), output.logits, kReordered);
  EXPECT_TENSORS_CLOSE(output.attentions[1].sum(-1), at::ones_like(output.attentions[1].select(-1, 0)), kReordered);
  EXPECT_TENSORS_EQUAL(output.attentions[0].triu(1), at::zeros_like(output.attentions[0]));
  EXPECT_TRUE(model_->forward({.input_ids = ids_}).hidden_states.empty());
}

TEST_P(ModelPropertyTest, EmbeddingsStandForTheirIds) {
  const auto embeds = model_->get_input_embeddings()->forward(ids_);
  EXPECT_TENSORS_EQUAL(logits(ModelInputs{.inputs_embeds = embeds}), logits(ids_));
  EXPECT_TENSORS_EQUAL(logits(ids_.to(at::kInt)), logits(ids_));
}

TEST_P(ModelPropertyTest, KeptLogitsAreThoseOfTheWhole) {
  const auto whole = logits(ids_);
  const auto last = model_->forward({.input_ids = ids_}, {.logits_to_keep = 2}).logits;
  EXPECT_TENSORS_CLOSE(last, whole.narrow(1, 7, 2), kReordered);
  const auto chosen = at::tensor({0, 5});
  const auto kept = model_->forward({.input_ids = ids_}, {.positions_to_keep = chosen}).logits;
  EXPECT_TENSORS_CLOSE(kept, whole.index_select(1, chosen), kReordered);
}

TEST_P(ModelPropertyTest, LeftPaddedHalfPrecisionIsFiniteEverywhere) {
  const auto padding = at::zeros({2, 3}, at::kLong);
  auto mask = at::cat({padding, at::ones_like(ids_)}, 1);
  mask[1].zero_();  // a row of padding alone
  for (const auto dtype : {at::kHalf, at::kBFloat16}) {
    const auto half = tiny_model(*GetParam().config, dtype);
    for (const auto kernel : {AttnImplementation::kEager, AttnImplementation::kSdpa, AttnImplementation::kFlash}) {
      SCOPED_TRACE(attn_implementation_name(kernel) + " " + c10::toString(dtype));
      half->set_attn_implementation(kernel);
      const auto output = half->forward(
          {.input_ids = at::cat({padding, ids_}, 1), .attention_mask = mask, .output_hidden_states = true});
      EXPECT_EQ(output.logits.scalar_type(), dtype);
      EXPECT_TRUE(output.logits.isfinite().all().item<bool>());
      EXPECT_TRUE(output.hidden_states[1].isfinite().all().item<bool>());
      EXPECT_TRUE(output.past_key_values->layer(1).first.isfinite().all().item<bool>());
    }
  }
}

TEST_P(ModelPropertyTest, CachesHoldGroupedHeadsOnly) {
  const auto output = model_->forward({.input_ids = ids_});
  const auto& config = *GetParam().config;
  const auto* llama = dynamic_cast<const LlamaConfig*>(&config);
  const auto heads = llama != nullptr ? llama->kv_heads() : dynamic_cast<const GPTJConfig&>(config).n_head;
  EXPECT_EQ(output.past_key_values->layer(0).first.size(1), heads);
  EXPECT_EQ(model_->forward({.input_ids = ids_, .use_cache = false}).past_key_values, nullptr);
}

TEST_P(ModelPropertyTest, CheckpointedBlocksGiveTheSameLossAndGradientsBitForBit) {
  const at::AutoGradMode with_grad(true);
  model_->train();
  const auto gradients = [this] {
    at::manual_seed(17);
    model_->zero_grad();
    const auto loss = model_->forward({.input_ids = ids_, .use_cache = false}, {.labels = ids_}).loss;
    loss.backward();
    std::vector<at::Tensor> found{loss.detach()};
    for (const auto& parameter : model_->parameters()) {
      found.push_back(parameter.grad().clone());
    }
    return found;
  };
  const auto plain = gradients();
  for (const int64_t every : {1, 2}) {
    model_->gradient_checkpointing_enable(every);
    const auto checkpointed = gradients();
    for (size_t i = 0; i < plain.size(); ++i) {
      EXPECT_TENSORS_EQUAL(checkpointed[i], plain[i]);
    }
  }
}

TEST_P(ModelPropertyTest, NoCacheIsKeptWhileBlocksAreCheckpointed) {
  const at::AutoGradMode with_grad(true);
  model_->train();
  EXPECT_FALSE(model_->is_gradient_checkpointing());
  model_->gradient_checkpointing_enable();
  EXPECT_TRUE(model_->is_gradient_checkpointing());
  EXPECT_EQ(model_->forward({.input_ids = ids_}).past_key_values, nullptr);
  model_->eval();
  EXPECT_NE(model_->forward({.input_ids = ids_}).past_key_values, nullptr);
  model_->train();
  model_->gradient_checkpointing_disable();
  EXPECT_FALSE(model_->is_gradient_checkpointing());
  EXPECT_NE(model_->forward({.input_ids = ids_}).past_key_values, nullptr);
  EXPECT_ERROR(model_->gradient_checkpointing_enable(0), "positive", "0");
}

INSTANTIATE_TEST_SUITE_P(, ModelPropertyTest, ::testing::ValuesIn(config_grid()),
                         [](const auto& info) { return info.param.name; });

TEST(LlamaPropertyTest, OutputsDependOnDistancesOnly) {
  const at::NoGradGuard no_grad;
  const auto model = tiny_model(tiny_llama());
  const auto ids = tiny_ids(1, 6);
  const auto shifted = model->forward({.input_ids = ids, .position_ids = at::arange(40, 46).unsqueeze(0)}).logits;
  EXPECT_TENSORS_CLOSE(shifted, model->forward({.input_ids = ids}).logits, {.relative = 1e-4, .absolute = 1e-4});
}

TEST(LlamaPropertyTest, GroupedHeadsAreFullHeadsWithRepeatedWeights) {
  const at::NoGradGuard no_grad;
  LlamaForCausalLM grouped(tiny_llama());
  auto full_config = tiny_llama();
  full_config.num_key_value_heads = 4;
  LlamaForCausalLM full(full_config);
  auto state = state_dict(*grouped);
  for (auto& entry : state) {
    if (entry.key().find("k_proj") != std::string::npos || entry.key().find("v_proj") != std::string::npos) {
      entry.value() = entry.value().view({2, 1, 6, 24}).expand({2, 2, 6, 24}).reshape({24, 24});
    }
  }
  load_state_dict(*full, state);
  const auto ids = tiny_ids(2, 7);
  EXPECT_TENSORS_CLOSE(full->forward({.input_ids = ids}).logits, grouped->forward({.input_ids = ids}).logits,
                       kReordered);
}

TEST(LlamaPropertyTest, HooksOnLayersSeeAndReplaceHiddenStates) {
  const at::NoGradGuard no_grad;
  LlamaForCausalLM model(tiny_llama());
  const auto ids = tiny_ids(1, 5);
  const auto plain = model->forward({.input_ids = ids, .output_hidden_states = true});
  at::Tensor seen;
  auto* layer = model->model->layers->ptr<LlamaDecoderLayerImpl>(1).get();
  const auto pre = layer->register_forward_pre_hook([&](const at::Tensor& input) {
    seen = input;
    return at::Tensor();
  });
  const auto post =
      layer->register_forward_hook([](const at::Tensor&, const at::Tensor& output) { return output * 0; });
  const auto hooked = model->forward({.input_ids = ids}).logits;
  EXPECT_TENSORS_EQUAL(seen, plain.hidden_states[1]);
  EXPECT_TENSORS_EQUAL(hooked, at::zeros_like(hooked));
  layer->remove_forward_hook(pre);
  layer->remove_forward_hook(post);
  EXPECT_TENSORS_EQUAL(model->forward({.input_ids = ids}).logits, plain.logits);
}

TEST(DropoutTest, ActsInTrainingOnly) {
  auto config = tiny_gptj();
  config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.5;
  const auto model = tiny_model(config);
  const auto ids = tiny_ids(1, 5);
  const auto run = [&] { return model->forward({.input_ids = ids}).logits; };
  EXPECT_TENSORS_EQUAL(run(), run());
  model->train();
  EXPECT_FALSE(run().equal(run()));
}

}  // namespace
}  // namespace transformers::testing
