#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <transformers/utils/tokenization/tokenizer.h>

#include <stdexcept>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/generation/tiny_models.h"

namespace transformers::testing {
namespace {

constexpr int64_t kNone = -1;  // an end token that never occurs

/// Keeps what it is given; stops or throws at a chosen call.
class RecordingStreamer : public Streamer {
 public:
  bool put(const at::Tensor& ids) override {
    puts.push_back(ids);
    if (puts.size() == throws_at) {
      throw std::runtime_error("enough");
    }
    return puts.size() != stops_at;
  }
  void end() override { ++ends; }

  std::vector<at::Tensor> puts;
  int ends = 0;
  size_t stops_at = 0, throws_at = 0;
};

class StreamerTest : public ::testing::Test {
 protected:
  std::shared_ptr<CausalLM> model = tiny_llama();
  std::shared_ptr<RecordingStreamer> streamer = std::make_shared<RecordingStreamer>();
  const ModelInputs prompt{.input_ids = ids({3, 7, 1})};
  const GenerationConfig config{.max_new_tokens = 6, .eos_token_id = {kNone}};
};

TEST_F(StreamerTest, GetsThePromptThenEachTokenThenTheEnd) {
  const auto sequences = generate(*model, prompt, config, {.streamer = streamer}).sequences;
  ASSERT_EQ(streamer->puts.size(), 7U);
  EXPECT_TENSORS_EQUAL(streamer->puts[0], prompt.input_ids);
  for (int64_t i = 1; i <= 6; ++i) {
    EXPECT_TENSORS_EQUAL(streamer->puts[i], sequences.select(1, 2 + i));
  }
  EXPECT_EQ(streamer->ends, 1);
}

TEST_F(StreamerTest, MayStopGenerationAfterAnyToken) {
  const auto whole = generate(*model, prompt, config).sequences;
  streamer->stops_at = 3;
  const auto output = generate(*model, prompt, config, {.streamer = streamer});
  EXPECT_TENSORS_EQUAL(output.sequences, whole.slice(1, 0, 5));
  EXPECT_EQ(output.new_tokens, 2);
  EXPECT_EQ(streamer->ends, 1);
  EXPECT_EQ(output.past_key_values->get_seq_length(), 4);
}

TEST_F(StreamerTest, MayStopBeforeTheFirstToken) {
  streamer->stops_at = 1;
  EXPECT_TENSORS_EQUAL(generate(*model, prompt, config, {.streamer = streamer}).sequences, prompt.input_ids);
}

TEST_F(StreamerTest, MayThrowAndLeavesModelAndCacheUsable) {
  const auto whole = generate(*model, prompt, config).sequences;
  auto with_cache = prompt;
  with_cache.past_key_values = std::make_shared<DynamicCache>();
  streamer->throws_at = 3;
  EXPECT_THROW(generate(*model, with_cache, config, {.streamer = streamer}), std::runtime_error);
  EXPECT_EQ(streamer->ends, 0);
  ASSERT_EQ(with_cache.past_key_values->get_seq_length(), 4);
  const auto rest = generate(*model, {.input_ids = whole.slice(1, 0, 5), .past_key_values = with_cache.past_key_values},
                             {.max_new_tokens = 4, .eos_token_id = {kNone}});
  EXPECT_TENSORS_EQUAL(rest.sequences, whole);
  EXPECT_TENSORS_EQUAL(generate(*model, prompt, config).sequences, whole);
}

class TextStreamerTest : public ::testing::Test {
 protected:
  std::shared_ptr<Tokenizer> tokenizer = load_tokenizer(source_path("tests/golden/tokenization/gpt2"));
  std::shared_ptr<CausalLM> model = tiny_llama(tokenizer->vocab_size());
  std::vector<std::string> pieces;

  std::shared_ptr<TextStreamer> streamer(TextStreamerOptions options, size_t stop_after = 1000) {
    return std::make_shared<TextStreamer>(
        tokenizer,
        [this, stop_after](std::string_view text) {
          pieces.emplace_back(text);
          return pieces.size() < stop_after;
        },
        options);
  }

  GenerateOutput write(const std::vector<int64_t>& tokens, std::shared_ptr<Streamer> streamer) {
    const GenerationConfig config{.max_new_tokens = static_cast<int64_t>(tokens.size()), .eos_token_id = {kNone}};
    return generate(*model, {.input_ids = ids(tokenizer->encode("Say: "))}, config,
                    {.logits_processors = {std::make_shared<ForcedText>(tokens)}, .streamer = std::move(streamer)});
  }

  std::string text() const {
    std::string all;
    for (const auto& piece : pieces) {
      all += piece;
    }
    return all;
  }
};

TEST_F(TextStreamerTest, PiecesAreWholeCharactersAndTheirSumTheText) {
  const std::string answer = "Grüße, 世界! \U0001F600\n";
  write(tokenizer->encode(answer), streamer({.skip_prompt = true}));
  EXPECT_EQ(text(), answer);
  EXPECT_GT(pieces.size(), 3U);
  for (const auto& piece : pieces) {
    EXPECT_FALSE(piece.empty());
    EXPECT_NE(static_cast<unsigned char>(piece.front()) & 0xC0U, 0x80U) << "begins inside a character";
  }
}

TEST_F(TextStreamerTest, ThePromptIsPartOfTheTextUnlessSkipped) {
  write(tokenizer->encode("hello"), streamer({}));
  EXPECT_EQ(text(), "Say: hello");
}

TEST_F(TextStreamerTest, AnUnfinishedCharacterAppearsAtTheEnd) {
  auto tokens = tokenizer->encode("\U0001F600");
  ASSERT_GT(tokens.size(), 1U);
  tokens.pop_back();
  write(tokens, streamer({.skip_prompt = true}));
  EXPECT_EQ(text(), tokenizer->decode(tokens));
  EXPECT_NE(text(), "");
}

TEST_F(TextStreamerTest, FalseStopsAndNothingFollows) {
  const auto output = write(tokenizer->encode("one two three four"), streamer({.skip_prompt = true}, 2));
  EXPECT_EQ(pieces.size(), 2U);
  EXPECT_EQ(output.new_tokens, 2);
}

TEST_F(TextStreamerTest, SeveralRowsAndNoTokenizerAreRefused) {
  EXPECT_ERROR(streamer({})->put(id_rows({{1}, {2}})), "one row at a time");
  EXPECT_ERROR(TextStreamer(nullptr, [](std::string_view) { return true; }), "needs a tokenizer");
}

}  // namespace
}  // namespace transformers::testing
