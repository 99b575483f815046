// Ids are those of AutoTokenizer, transformers 5.23.0, for the same files; whole texts are among the goldens
// (`side_tokens`, `side_files`).
#include <transformers/utils/tokenization/tokenizer.h>

#include <nlohmann/json.hpp>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"

namespace transformers {
namespace {

using Ids = std::vector<int64_t>;
using nlohmann::ordered_json;

/// Three characters and one added token, `<x>` with id 3.
std::shared_ptr<Tokenizer> load_folder(const std::string& config, const ordered_json& added = {}) {
  const testing::TemporaryFolder folder;
  ordered_json json{{"model", {{"vocab", {{"a", 0}, {"b", 1}, {" ", 2}}}, {"merges", ordered_json::array()}}},
                    {"added_tokens", {{{"id", 3}, {"content", "<x>"}, {"special", true}, {"normalized", false}}}}};
  for (const auto& token : added) {
    json["added_tokens"].push_back(token);
  }
  testing::write_file(folder / "tokenizer.json", json.dump());
  testing::write_file(folder / "tokenizer_config.json", config);
  return load_tokenizer(folder.path());
}

TEST(SideTokensTest, ATokenThatOnlyTheConfigNamesGetsTheNextId) {
  const auto tokenizer =
      load_folder(R"({"pad_token": "[PAD]", "additional_special_tokens": ["<e>"], "image_token": "<i>"})");
  EXPECT_EQ(tokenizer->encode("a[PAD]b<i><e>"), (Ids{0, 4, 1, 5, 6}));
  EXPECT_EQ(tokenizer->special_token_ids().pad, 4);
  EXPECT_TRUE(tokenizer->is_special(4));
  EXPECT_EQ(tokenizer->vocab_size(), 7);
}

TEST(SideTokensTest, ATokenOfTheVocabularyKeepsItsId) {
  const auto tokenizer = load_folder(R"({"pad_token": "a"})");
  EXPECT_EQ(tokenizer->encode("ab"), (Ids{0, 1}));
  EXPECT_TRUE(tokenizer->is_special(0));
  EXPECT_EQ(tokenizer->vocab_size(), 4);
}

TEST(SideTokensTest, FlagsOfTheDecoderCount) {
  EXPECT_EQ(load_folder("{}")->encode("a <x> b"), (Ids{0, 2, 3, 2, 1}));
  const auto tokenizer =
      load_folder(R"({"added_tokens_decoder": {"3": {"content": "<x>", "special": true, "lstrip": true}}})");
  EXPECT_EQ(tokenizer->encode("a <x> b"), (Ids{0, 3, 2, 1}));
}

TEST(SideTokensTest, ThePlacesOfTheDecoderAreAnOrderNotIds) {
  const auto tokenizer =
      load_folder(R"({"added_tokens_decoder": {"60": {"content": "<z>"}, "40": {"content": "<y>"}}})");
  EXPECT_EQ(tokenizer->encode("<y><z>"), (Ids{4, 5}));
}

TEST(SideTokensTest, GptTwoHasAnEndOfTextToken) {
  const auto tokenizer = load_folder(R"({"tokenizer_class": "GPT2Tokenizer"})");
  EXPECT_EQ(tokenizer->encode("a<|endoftext|>"), (Ids{0, 4}));
  EXPECT_EQ(tokenizer->special_token_ids().bos, 4);
  EXPECT_FALSE(load_folder(R"({"tokenizer_class": "GPT2Tokenizer", "bos_token": null})")->special_token_ids().bos);
}

TEST(SideTokensTest, AnEntryMayComeTwice) {
  const ordered_json once{{"id", 3}, {"content", "<x>"}, {"special", true}, {"normalized", false}};
  EXPECT_EQ(load_folder("{}", ordered_json::array({once}))->encode("a <x>"), (Ids{0, 2, 3}));
  auto stripping = once;
  stripping["lstrip"] = true;
  EXPECT_EQ(load_folder("{}", ordered_json::array({stripping}))->encode("a <x>"), (Ids{0, 3}));
}

// transformers would give it the next free id; see docs/compatibility.md.
TEST(SideTokensTest, AnIdOfTheFileIsKept) {
  const ordered_json far{{"id", 90}, {"content", "<far>"}, {"special", true}, {"normalized", false}};
  const auto tokenizer = load_folder(R"({"pad_token": "[PAD]"})", ordered_json::array({far}));
  EXPECT_EQ(tokenizer->encode("<far>[PAD]"), (Ids{90, 91}));
}

TEST(SideTokensTest, TextCannotSpellAMarkThatThePromptUses) {
  const ordered_json mark{{"id", 4}, {"content", "<m>"}, {"special", false}, {"normalized", false}};
  const auto tokenizer = load_folder("{}", ordered_json::array({mark}));
  EXPECT_EQ(tokenizer->encode("<m>a"), (Ids{4, 0}));
  EXPECT_EQ(tokenizer->encode_parts({int64_t{4}, std::string("<m>a")}), (Ids{4, 0}));
  EXPECT_EQ(tokenizer->encode_parts({std::string("<m>a")}), (Ids{4, 0}));
}

}  // namespace
}  // namespace transformers
