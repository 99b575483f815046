#include "utils/tokenization/tokenizer_config.h"

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"

namespace transformers::tokenization {
namespace {

TokenizerConfig read(const std::string& config) {
  const testing::TemporaryFolder folder;
  testing::write_file(folder / "tokenizer_config.json", config);
  return read_tokenizer_config(folder.path());
}

TEST(TokenizerConfigTest, ReadsTokensInBothSpellings) {
  const auto config =
      read(R"({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "pad_token": null})");
  EXPECT_EQ(config.bos_token, "<s>");
  EXPECT_EQ(config.eos_token, "</s>");
  EXPECT_FALSE(config.pad_token);
  EXPECT_FALSE(config.add_bos_token);
}

// As `_from_pretrained` of transformers 5.23 does.
TEST(TokenizerConfigTest, TheSpecialTokensMapWinsWhereThereIsNoDecoder) {
  const testing::TemporaryFolder folder;
  testing::write_file(folder / "tokenizer_config.json", R"({"bos_token": "<s>", "unk_token": "<unk>"})");
  testing::write_file(folder / "special_tokens_map.json", R"({"bos_token": "other", "eos_token": "</s>"})");
  const auto config = read_tokenizer_config(folder.path());
  EXPECT_EQ(config.bos_token, "other");
  EXPECT_EQ(config.eos_token, "</s>");
  EXPECT_EQ(config.unk_token, "<unk>");
  testing::write_file(folder / "tokenizer_config.json", R"({"bos_token": "<s>", "added_tokens_decoder": {}})");
  EXPECT_EQ(read_tokenizer_config(folder.path()).bos_token, "<s>");
}

// What transformers writes for every tokenizer without a limit: int(1e30).
TEST(TokenizerConfigTest, NumbersThatNobodyReadsMayBeOfAnySize) {
  const auto config =
      read(R"({"bos_token": "<s>", "model_max_length": 1000000000000000019884624838656, "x": 1.5e300})");
  EXPECT_EQ(config.bos_token, "<s>");
}

TEST(TokenizerConfigTest, NothingThereIsNothingSaid) {
  const testing::TemporaryFolder folder;
  const auto config = read_tokenizer_config(folder.path());
  EXPECT_FALSE(config.bos_token || config.chat_template || config.add_bos_token);
  EXPECT_TRUE(config.added_tokens.empty());
}

TEST(TokenizerConfigTest, RefusesWrongTypes) {
  const std::vector<std::pair<const char*, const char*>> table{
      {"[]", "expected an object, found array"},
      {R"({"bos_token": 1})", "bos_token: expected a string, found number"},
      {R"({"eos_token": {"lstrip": true}})", "eos_token: the key content is missing"},
      {R"({"add_bos_token": "yes"})", "add_bos_token: expected true or false, found string"},
      {R"({"chat_template": 5})", "chat_template: expected an array"},
      {R"({"chat_template": [{"name": "default"}]})", "chat_template[0]: the key template is missing"},
      {R"({"added_tokens_decoder": {"x": {"content": "a"}}})", "expected a token id as the key, found x"},
      {R"({"added_tokens_decoder": {"-1": {"content": "a"}}})", "expected a token id from 0 to 2^31 - 1, found -1"},
      {R"({"added_tokens_decoder": {"99999999999999999999": {"content": "a"}}})", "expected a token id as the key"},
  };
  for (const auto& [config, message] : table) {
    EXPECT_ERROR(read(config), "tokenizer_config.json", message);
  }
}

TEST(TokenizerConfigTest, RefusesATemplateThatIsNotText) {
  const testing::TemporaryFolder folder;
  testing::write_file(folder / "chat_template.jinja", "\xFF");
  EXPECT_ERROR(read_tokenizer_config(folder.path()), "chat_template.jinja: is not valid UTF-8");
}

}  // namespace
}  // namespace transformers::tokenization
