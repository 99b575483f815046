#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <set>

#include "support/tensor_assertions.h"
#include "utils/generation/tiny_models.h"

namespace transformers::testing {
namespace {

constexpr int64_t kNone = -1;  // an end token that never occurs

GenerationConfig new_tokens(int64_t count) { return {.max_new_tokens = count, .eos_token_id = {kNone}}; }

at::Generator seeded(uint64_t seed) { return at::detail::createCPUGenerator(seed); }

const std::vector<int64_t> kPrompt{3, 7, 1, 9, 4};

TEST(GenerateTest, GreedyTakesTheBestTokenOfTheWholeTextEachTime) {
  for (const auto& model : tiny_models()) {
    auto text = ids(kPrompt);
    for (int i = 0; i < 8; ++i) {
      const auto logits = model->forward({.input_ids = text, .use_cache = false}).logits;
      text = at::cat({text, logits.select(1, -1).argmax(-1, true)}, 1);
    }
    EXPECT_TENSORS_EQUAL(generate(*model, {.input_ids = ids(kPrompt)}, new_tokens(8)).sequences, text);
  }
}

TEST(GenerateTest, CachesOfEachKindAndNoneGiveTheSameTokens) {
  for (const auto& model : tiny_models()) {
    const ModelInputs inputs{.input_ids = id_rows({{0, 0, 3, 7, 1}, {4, 9, 2, 2, 8}}),
                             .attention_mask = id_rows({{0, 0, 1, 1, 1}, {1, 1, 1, 1, 1}})};
    auto config = new_tokens(10);
    config.output_scores = true;
    const auto dynamic = generate(*model, inputs, config);
    config.cache_implementation = "static";
    const auto fixed = generate(*model, inputs, config);
    config.cache_implementation.reset();
    config.use_cache = false;
    const auto without = generate(*model, inputs, config);
    for (const auto* other : {&fixed, &without}) {
      EXPECT_TENSORS_EQUAL(other->sequences, dynamic.sequences);
      EXPECT_TENSORS_CLOSE(other->scores.back(), dynamic.scores.back(), {1e-5, 1e-5});
    }
    EXPECT_EQ(dynamic.past_key_values->get_seq_length(), 14);
    EXPECT_EQ(fixed.past_key_values->get_max_length(), 14);
    EXPECT_EQ(without.past_key_values, nullptr);
  }
}

TEST(GenerateTest, LeftPaddedRowsGetWhatTheyGetAlone) {
  for (const auto& model : tiny_models()) {
    const auto alone = generate(*model, {.input_ids = ids({5, 6})}, new_tokens(8)).sequences;
    const auto batch = generate(*model,
                                {.input_ids = id_rows({{0, 0, 0, 5, 6}, {3, 7, 1, 9, 4}}),
                                 .attention_mask = id_rows({{0, 0, 0, 1, 1}, {1, 1, 1, 1, 1}})},
                                new_tokens(8));
    EXPECT_TENSORS_EQUAL(batch.sequences.slice(0, 0, 1).slice(1, 3), alone);
    EXPECT_TENSORS_EQUAL(batch.sequences.slice(0, 1),
                         generate(*model, {.input_ids = ids(kPrompt)}, new_tokens(8)).sequences);
    EXPECT_EQ(batch.prompt_tokens, 7);
    EXPECT_EQ(batch.new_tokens, 16);
  }
}

TEST(GenerateTest, MaskComesFromAPadTokenThatIsNoEndToken) {
  const auto model = tiny_llama();
  const auto padded = id_rows({{0, 0, 5, 6}, {3, 7, 1, 9}});
  const auto mask = id_rows({{0, 0, 1, 1}, {1, 1, 1, 1}});
  auto config = new_tokens(6);
  const auto masked = generate(*model, {.input_ids = padded, .attention_mask = mask}, config).sequences;
  const auto unmasked =
      generate(*model, {.input_ids = padded, .attention_mask = at::ones_like(mask)}, config).sequences;
  ASSERT_FALSE(at::equal(masked, unmasked));
  config.pad_token_id = 0;
  EXPECT_TENSORS_EQUAL(generate(*model, {.input_ids = padded}, config).sequences, masked);
  config.eos_token_id = {0};
  config.min_new_tokens = 6;
  EXPECT_TENSORS_EQUAL(generate(*model, {.input_ids = padded}, config).sequences.slice(1, 0, 4), padded);
  EXPECT_EQ(generate(*model, {.input_ids = padded}, config).prompt_tokens, 8);
}

TEST(GenerateTest, EndedRowsAreFilledWithPadding) {
  const auto model = tiny_llama();
  const auto prompts = id_rows({{3, 7}, {9, 4}});
  const auto free = generate(*model, {.input_ids = prompts}, new_tokens(6)).sequences;
  const auto end = free[0][3].item<int64_t>();
  GenerationConfig config{.max_new_tokens = 6, .pad_token_id = 20, .eos_token_id = {end, 500}};
  const auto ended = generate(*model, {.input_ids = prompts}, config);
  int64_t counted = 0;
  for (int64_t row = 0; row < 2; ++row) {
    bool over = false;
    for (int64_t i = 2; i < ended.sequences.size(1); ++i) {
      const auto token = ended.sequences[row][i].item<int64_t>();
      EXPECT_EQ(token, over ? 20 : free[row][i].item<int64_t>());
      counted += over ? 0 : 1;
      over = over || token == end;
    }
  }
  EXPECT_EQ(ended.new_tokens, counted);
  config.pad_token_id.reset();
  EXPECT_EQ(generate(*model, {.input_ids = prompts}, config).sequences[0][4].item<int64_t>(), end);
}

TEST(GenerateTest, TheSameSeedDrawsTheSameTokens) {
  for (const auto& model : tiny_models()) {
    auto config = new_tokens(12);
    config.do_sample = true;
    config.temperature = 3.0;
    const auto draw = [&](uint64_t seed) {
      return generate(*model, {.input_ids = ids(kPrompt)}, config, {.generator = seeded(seed)}).sequences;
    };
    EXPECT_TENSORS_EQUAL(draw(1), draw(1));
    EXPECT_FALSE(at::equal(draw(1), draw(2)));
  }
}

TEST(GenerateTest, ReturnedSequencesOfARowStandTogether) {
  const auto model = tiny_llama();
  auto config = new_tokens(8);
  config.do_sample = true;
  config.temperature = 5.0;
  config.num_return_sequences = 3;
  const auto output = generate(*model, {.input_ids = id_rows({{3, 7}, {9, 4}})}, config, {.generator = seeded(3)});
  EXPECT_TENSORS_EQUAL(output.sequences.slice(1, 0, 2), id_rows({{3, 7}, {3, 7}, {3, 7}, {9, 4}, {9, 4}, {9, 4}}));
  EXPECT_FALSE(at::equal(output.sequences[0], output.sequences[1]));
  EXPECT_EQ(output.prompt_tokens, 4);
}

TEST(GenerateTest, AGivenCacheGoesOnWithTheWholeTextOrItsNewPart) {
  for (const auto& model : tiny_models()) {
    const auto whole = generate(*model, {.input_ids = ids(kPrompt)}, new_tokens(9)).sequences;
    const auto first = [&] { return generate(*model, {.input_ids = ids(kPrompt)}, new_tokens(4)); };
    const auto begun = first();
    EXPECT_EQ(begun.past_key_values->get_seq_length(), 8);
    const auto all =
        generate(*model, {.input_ids = begun.sequences, .past_key_values = begun.past_key_values}, new_tokens(5));
    EXPECT_TENSORS_EQUAL(all.sequences, whole);
    EXPECT_EQ(all.past_key_values, begun.past_key_values);

    const auto again = first();
    const auto newest = again.sequences.slice(1, 8);
    const auto rest = generate(
        *model,
        {.input_ids = newest, .attention_mask = at::ones({1, 9}, at::kLong), .past_key_values = again.past_key_values},
        new_tokens(5));
    EXPECT_TENSORS_EQUAL(rest.sequences, whole.slice(1, 8));
  }
}

TEST(GenerateTest, APaddedCacheGoesOnWithAMaskOverAll) {
  for (const auto& model : tiny_models()) {
    const auto prompts = id_rows({{0, 0, 5, 6}, {3, 7, 1, 9}}), mask = id_rows({{0, 0, 1, 1}, {1, 1, 1, 1}});
    const auto whole = generate(*model, {.input_ids = prompts, .attention_mask = mask}, new_tokens(7)).sequences;
    for (const bool only_new : {false, true}) {
      const auto begun = generate(*model, {.input_ids = prompts, .attention_mask = mask}, new_tokens(3));
      const auto text = only_new ? begun.sequences.slice(1, 6) : begun.sequences;
      const auto rest = generate(*model,
                                 {.input_ids = text,
                                  .attention_mask = at::cat({mask, at::ones({2, 3}, at::kLong)}, 1),
                                  .past_key_values = begun.past_key_values},
                                 new_tokens(4));
      EXPECT_TENSORS_EQUAL(rest.sequences, only_new ? whole.slice(1, 6) : whole);
    }
  }
}

TEST(GenerateTest, ACacheFilledHereCanGoOnGrowingInAForwardWithGradients) {
  const auto model = tiny_llama();
  const auto output = generate(*model, {.input_ids = ids(kPrompt)}, new_tokens(3));
  const auto logits =
      model->forward({.input_ids = output.sequences.slice(1, 7), .past_key_values = output.past_key_values}).logits;
  logits.sum().backward();
  EXPECT_TRUE(model->parameters().front().grad().defined());
  EXPECT_EQ(output.past_key_values->get_seq_length(), 8);
}

TEST(GenerateTest, EmbeddingsGiveTheNewTokensOnly) {
  for (const auto& model : tiny_models()) {
    const auto prompts = id_rows({{0, 0, 5, 6}, {3, 7, 1, 9}}), mask = id_rows({{0, 0, 1, 1}, {1, 1, 1, 1}});
    const auto embeds = model->get_input_embeddings()(prompts).detach();
    const auto from_ids = generate(*model, {.input_ids = prompts, .attention_mask = mask}, new_tokens(6)).sequences;
    const auto only_new = generate(*model, {.attention_mask = mask, .inputs_embeds = embeds}, new_tokens(6));
    EXPECT_TENSORS_EQUAL(only_new.sequences, from_ids.slice(1, 4));
    const auto both =
        generate(*model, {.input_ids = prompts, .attention_mask = mask, .inputs_embeds = embeds}, new_tokens(6));
    EXPECT_TENSORS_EQUAL(both.sequences, from_ids);
    const GenerationConfig by_length{.max_length = 10, .eos_token_id = {kNone}};
    EXPECT_EQ(generate(*model, {.attention_mask = mask, .inputs_embeds = embeds}, by_length).sequences.size(1), 6);
  }
}

TEST(GenerateTest, NoPromptBeginsWithTheBosToken) {
  const auto model = tiny_llama();
  auto config = new_tokens(4);
  config.bos_token_id = 5;
  EXPECT_TENSORS_EQUAL(generate(*model, {}, config).sequences,
                       generate(*model, {.input_ids = ids({5})}, new_tokens(4)).sequences);
}

TEST(GenerateTest, TokenTypesRepeatTheLastOne) {
  const auto model = tiny_gptj();
  auto config = new_tokens(5);
  config.output_logits = true;
  const auto types = ids({1, 1, 2, 2, 6});
  const auto output = generate(*model, {.input_ids = ids(kPrompt), .token_type_ids = types}, config);
  const auto all_types = at::cat({types, at::full({1, 4}, 6, at::kLong)}, 1);
  const auto logits =
      model->forward({.input_ids = output.sequences.slice(1, 0, 9), .token_type_ids = all_types}).logits;
  EXPECT_TENSORS_CLOSE(output.logits.back(), logits.select(1, -1), {1e-5, 1e-5});
}

TEST(GenerateTest, GivenPositionsCountOn) {
  for (const auto& model : tiny_models()) {
    auto config = new_tokens(4);
    config.output_logits = true;
    const auto positions = at::arange(20, 25).unsqueeze(0);
    const auto output = generate(*model, {.input_ids = ids(kPrompt), .position_ids = positions}, config);
    const auto logits =
        model->forward({.input_ids = output.sequences.slice(1, 0, 8), .position_ids = at::arange(20, 28).unsqueeze(0)})
            .logits;
    EXPECT_TENSORS_CLOSE(output.logits.back(), logits.select(1, -1), {1e-5, 1e-5});
  }
}

TEST(GenerateTest, OneRowOfPositionsServesAllRows) {
  const auto model = tiny_llama();
  auto config = new_tokens(4);
  config.do_sample = true;
  config.num_return_sequences = 2;
  const auto prompts = id_rows({{3, 7}, {9, 4}});
  const auto draw = [&](const at::Tensor& positions) {
    return generate(*model, {.input_ids = prompts, .position_ids = positions}, config, {.generator = seeded(5)})
        .sequences;
  };
  EXPECT_TENSORS_EQUAL(draw(ids({8, 9})), draw(id_rows({{8, 9}, {8, 9}})));
}

TEST(GenerateTest, EndTokensOutsideTheVocabularyAreNone) {
  const auto model = tiny_llama();
  const auto prompts = id_rows({{3, 7}, {9, 4}});
  const auto free = generate(*model, {.input_ids = prompts}, new_tokens(6)).sequences;
  const auto end = free[0][3].item<int64_t>();
  const auto ended =
      generate(*model, {.input_ids = prompts}, {.max_new_tokens = 6, .eos_token_id = {kNone, 500, end}}).sequences;
  EXPECT_EQ(ended[0][4].item<int64_t>(), end);
}

TEST(GenerateTest, WritesOnlyWhatIsAskedFor) {
  const auto model = tiny_llama();
  auto config = new_tokens(3);
  const auto plain = generate(*model, {.input_ids = ids(kPrompt)}, config);
  EXPECT_TRUE(plain.scores.empty() && plain.logits.empty() && plain.attentions.empty());
  EXPECT_FALSE(plain.sequences_scores.defined());
  config.output_scores = config.output_logits = true;
  config.suppress_tokens = {2};
  const auto full =
      generate(*model, {.input_ids = ids(kPrompt), .output_attentions = true, .output_hidden_states = true}, config);
  ASSERT_EQ(full.scores.size(), 3U);
  EXPECT_TRUE(full.scores[0].isneginf().sum().item<int64_t>() == 1 && full.scores[0].dtype() == at::kFloat);
  EXPECT_FALSE(full.logits[0].isneginf().any().item<bool>());
  EXPECT_EQ(full.attentions[1][0].sizes(), (std::vector<int64_t>{1, 4, 1, 6}));
  EXPECT_EQ(full.hidden_states[0].size(), 3U);
}

TEST(GenerateTest, ComputesTheLastPositionsLogitsOnly) {
  const auto model = tiny_llama();
  auto config = new_tokens(1);
  config.output_logits = true;
  EXPECT_EQ(generate(*model, {.input_ids = ids(kPrompt)}, config).logits[0].storage().nbytes(), 24 * sizeof(float));
}

TEST(GenerateTest, LengthsFollowHuggingFacesPriorities) {
  const auto model = tiny_llama();
  const auto length = [&](GenerationConfig config, int64_t prompt = 5) {
    config.eos_token_id = {kNone};
    return generate(*model, {.input_ids = at::ones({1, prompt}, at::kLong)}, config).sequences.size(1);
  };
  EXPECT_EQ(length({}), 25);
  EXPECT_EQ(length({}, 60), 64);  // max_position_embeddings
  EXPECT_EQ(length({.max_length = 9}), 9);
  EXPECT_EQ(length({.max_length = 9, .max_new_tokens = 2}), 7);
  model->generation_config.max_new_tokens = 3;
  EXPECT_EQ(length({}), 8);
  EXPECT_EQ(length({.max_new_tokens = 1}), 6);
}

TEST(GenerateTest, OptionsOfTheModelHoldWhereTheCallIsSilent) {
  const auto model = tiny_llama();
  const auto best = generate(*model, {.input_ids = ids(kPrompt)}, new_tokens(1)).sequences[0][5].item<int64_t>();
  model->generation_config.suppress_tokens = {best};
  EXPECT_NE(generate(*model, {.input_ids = ids(kPrompt)}, new_tokens(1)).sequences[0][5].item<int64_t>(), best);
}

TEST(GenerateTest, TokensMayBeConstrainedByTheirPrefix) {
  const auto model = tiny_llama();
  std::set<int64_t> rows;
  const auto allowed = [&](int64_t row, const at::Tensor& text) {
    rows.insert(row);
    return std::vector<int64_t>{(text[-1].item<int64_t>() + 1) % 24};
  };
  const auto output =
      generate(*model, {.input_ids = id_rows({{3, 7}, {9, 4}})}, new_tokens(3), {.prefix_allowed_tokens = allowed});
  EXPECT_TENSORS_EQUAL(output.sequences, id_rows({{3, 7, 8, 9, 10}, {9, 4, 5, 6, 7}}));
  EXPECT_EQ(rows, (std::set<int64_t>{0, 1}));
}

TEST(GenerateTest, OwnProcessorsRunBeforeThoseOfSampling) {
  const auto model = tiny_llama();
  auto config = new_tokens(3);
  config.do_sample = true;
  config.top_k = 1;
  const auto output = generate(*model, {.input_ids = ids({3, 7})}, config,
                               {.logits_processors = {std::make_shared<ForcedText>(std::vector<int64_t>{2, 11, 4})}});
  EXPECT_TENSORS_EQUAL(output.sequences, ids({3, 7, 2, 11, 4}));
}

TEST(GenerateTest, TellsHowLongItTook) {
  const auto output = generate(*tiny_llama(), {.input_ids = ids(kPrompt)}, new_tokens(5));
  EXPECT_EQ(output.prompt_tokens, 5);
  EXPECT_EQ(output.new_tokens, 5);
  EXPECT_GT(output.prefill_seconds, 0);
  EXPECT_GT(output.decode_seconds, 0);
}

}  // namespace
}  // namespace transformers::testing
