// Ids and texts of HF tokenizers 0.23.3 and sentencepiece 0.2.3, from scripts/goldens/make_tokenizer_goldens.py.
#include <gtest/gtest.h>
#include <transformers/utils/tokenization/tokenizer.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "support/temporary_folder.h"
#include "utils/tokenization/golden_files.h"

namespace transformers {
namespace {

using Ids = std::vector<int64_t>;
using nlohmann::json;

struct Row {
  std::string text;
  Ids ids, plain;
  std::string decoded, decoded_all;
};

std::vector<Row> read_rows(const std::string& kind) {
  const auto texts = testing::corpus();
  const auto rows = testing::read_golden(kind + "/expected.json").at("rows");
  EXPECT_EQ(rows.size(), texts.size());
  std::vector<Row> result;
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto& row = rows.at(i);
    const auto or_else = [&](const char* key, const char* other) {
      return row.at(key).is_null() ? row.at(other) : row.at(key);
    };
    result.push_back({texts[i], row.at("ids").get<Ids>(), or_else("plain", "ids").get<Ids>(),
                      row.at("decoded").get<std::string>(), or_else("decoded_all", "decoded").get<std::string>()});
  }
  return result;
}

std::string streamed(const Tokenizer& tokenizer, const Ids& ids, bool skip_special_tokens) {
  const auto decoder = tokenizer.streaming_decoder(skip_special_tokens);
  std::string text;
  for (const auto id : ids) {
    const auto fresh = decoder->push(id);
    // Whole characters only: neither an unfinished one at the end nor the rest of one at the start.
    EXPECT_NO_THROW(json(fresh).dump()) << "after id " << id;
    text += fresh;
  }
  return text + decoder->finish();
}

void expect_equals_python(const Tokenizer& tokenizer, const std::string& kind) {
  for (const auto& row : read_rows(kind)) {
    SCOPED_TRACE(kind + ": " + json(row.text).dump());
    EXPECT_EQ(tokenizer.encode(row.text), row.ids);
    EXPECT_EQ(tokenizer.encode(row.text, /*add_special_tokens=*/false), row.plain);
    EXPECT_EQ(tokenizer.decode(row.ids), row.decoded);
    EXPECT_EQ(tokenizer.decode(row.ids, /*skip_special_tokens=*/false), row.decoded_all);
    EXPECT_EQ(streamed(tokenizer, row.ids, true), row.decoded);
    EXPECT_EQ(streamed(tokenizer, row.ids, false), row.decoded_all);
  }
}

class TokenizerGoldenTest : public ::testing::TestWithParam<const char*> {};

TEST_P(TokenizerGoldenTest, IdsAndTextsEqualPython) {
  EXPECT_GE(testing::corpus().size(), 500);
  expect_equals_python(*load_tokenizer(testing::golden_path(GetParam())), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Kinds, TokenizerGoldenTest,
                         ::testing::Values("gpt2", "smollm2", "llama3", "llama2", "llama2_metaspace", "added", "plain",
                                           "falcon", "punctuation", "unigram", "unigram_bytes", "unigram_spm",
                                           "side_tokens", "side_files", "vocab_merges", "spm", "spm_unigram",
                                           "tiktoken"),
                         [](const auto& info) { return std::string(info.param); });

TEST(TokenizerTest, RealSmolLm2EqualsPython) {
  const auto folder = testing::source_path("models/SmolLM2-135M-Instruct");
  if (!std::filesystem::exists(folder)) {
    GTEST_SKIP() << "models/SmolLM2-135M-Instruct is not there";
  }
  expect_equals_python(*load_tokenizer(folder), "smollm2_real");
}

}  // namespace
}  // namespace transformers
