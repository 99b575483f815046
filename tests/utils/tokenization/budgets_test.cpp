// What a small file may ask for is bounded; see the table in docs/files.md.
#include <transformers/utils/tokenization/chat_format.h>
#include <transformers/utils/tokenization/tokenizer.h>

#include <nlohmann/json.hpp>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/text/pattern.h"
#include "utils/tokenization/jinja_text.h"

namespace transformers {
namespace {

using nlohmann::ordered_json;

std::shared_ptr<Tokenizer> load(const char* key, const ordered_json& component) {
  const testing::TemporaryFolder folder;
  auto json = ordered_json::parse(R"({"model": {"vocab": {"a": 0, "b": 1}, "merges": []}})");
  json[key] = component;
  testing::write_file(folder / "tokenizer.json", json.dump());
  return load_tokenizer(folder.path());
}

ordered_json sequence(const char* key, const ordered_json& step, size_t count) {
  return {{"type", "Sequence"}, {key, std::vector<ordered_json>(count, step)}};
}

TEST(TokenizerBudgetTest, NormalizersDoNotGrowTextWithoutBound) {
  const ordered_json step{{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(50, 'a')}};
  const auto tokenizer = load("normalizer", sequence("normalizers", step, 6));
  EXPECT_ERROR(tokenizer->encode("aaaa"),
               "a Replace step of the tokenizer makes a text longer than 32 times its bytes");
  const ordered_json prefix{{"type", "Prepend"}, {"prepend", std::string(60'000, 'a')}};
  EXPECT_EQ(load("normalizer", prefix)->encode("b").size(), 60'001);
  EXPECT_ERROR(load("normalizer", sequence("normalizers", prefix, 2))->encode("b"), "a Prepend step");
}

TEST(TokenizerBudgetTest, PreTokenizersDoNotEither) {
  // Each step spells a byte above 127 as two.
  const ordered_json step{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  const auto tokenizer = load("pre_tokenizer", sequence("pretokenizers", step, 40));
  EXPECT_ERROR(tokenizer->encode(std::string("\xC3\xA9")), "the pre_tokenizer of the tokenizer makes a text longer");
}

TEST(TokenizerBudgetTest, DecodersDoNotEither) {
  const ordered_json step{{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(50, 'a')}};
  const auto tokenizer = load("decoder", sequence("decoders", step, 6));
  EXPECT_ERROR(tokenizer->decode(std::vector<int64_t>{0, 0, 0}), "of the tokenizer makes a text longer");
}

TEST(TokenizerBudgetTest, TemplatesHoldAThousandTokens) {
  const auto with = [](size_t ids, size_t times) {
    std::vector<ordered_json> single(times, {{"SpecialToken", {{"id", "t"}}}});
    single.push_back({{"Sequence", {{"id", "A"}}}});
    return ordered_json{{"type", "TemplateProcessing"},
                        {"single", single},
                        {"special_tokens", {{"t", {{"ids", std::vector<int>(ids, 0)}}}}}};
  };
  EXPECT_EQ(load("post_processor", with(2, 512))->encode("").size(), 1024);
  EXPECT_ERROR(load("post_processor", with(20'000, 1)), "post_processor: expected at most 1024 tokens around a text");
  EXPECT_ERROR(load("post_processor", with(2, 513)), "at most 1024 tokens");
  EXPECT_ERROR(load("post_processor", sequence("processors", with(2, 512), 2)), "at most 1024 tokens");
}

TEST(TokenizerBudgetTest, TokensToLookForAreShort) {
  const testing::TemporaryFolder folder;
  auto json = ordered_json::parse(R"({"model": {"vocab": {"a": 0}, "merges": []}})");
  json["added_tokens"] = {{{"id", 1}, {"content", std::string(1025, 'a')}}};
  testing::write_file(folder / "tokenizer.json", json.dump());
  EXPECT_ERROR(load_tokenizer(folder.path()), "added_tokens[0]: content: expected at most 1024 bytes, found 1025");
  json["added_tokens"] = ordered_json::array();
  json["model"] = {{"type", "Unigram"},
                   {"vocab", ordered_json::array({ordered_json::array({std::string(1025, 'a'), -1.0})})}};
  testing::write_file(folder / "tokenizer.json", json.dump());
  EXPECT_ERROR(load_tokenizer(folder.path()), "vocab[0]: expected a piece of at most 1024 bytes, found 1025");
}

// 2^21 ways to fail at each place, which the engine's own limit for one place does not meet.
TEST(TokenizerBudgetTest, RegexesHaveABudgetForTheWholeText) {
  std::string regex;
  for (int i = 0; i < 20; ++i) {
    regex += "(?:a|a)";
  }
  const auto pattern = tokenization::regex_pattern(regex + "b", "file");
  EXPECT_ERROR(pattern(std::string(100'000, 'a')), "costs more steps than the limit");
  const auto polynomial = tokenization::regex_pattern("a*a*a*a*b", "file");
  EXPECT_ERROR(polynomial(std::string(20'000, 'a')), "file: the regex");
}

TEST(TokenizerBudgetTest, RealRegexesStayFarBelowTheirs) {
  const auto pattern = tokenization::regex_pattern(R"(\s*[\r\n]+|\s+(?!\S)|\s+|\S+)", "file");
  std::string text;
  for (int i = 0; i < 200; ++i) {
    text.append(5'000, ' ').append("x");
  }
  EXPECT_EQ(pattern(text).size(), 600);
  const auto absent = tokenization::regex_pattern("x[0-9]", "file");
  EXPECT_EQ(absent(std::string(4'000'000, 'y')).size(), 1);
}

TEST(TokenizerBudgetTest, TemplatesAreRecognisedInOnePass) {
  std::string long_template;
  while (long_template.size() < 900'000) {
    long_template += "{{ a.role }}";
  }
  tokenization::canonical_template(long_template);
  EXPECT_ERROR(recognize_chat_template(long_template, "f"), "is none of ChatML");
  tokenization::canonical_template(std::string(900'000, '{'));
}

}  // namespace
}  // namespace transformers
