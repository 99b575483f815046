#include "utils/data/text_file.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/data/json_lines_file.h"

namespace transformers::testing {
namespace {

std::string tokenizer_folder(const std::string& name) {
  return std::string(TRANSFORMERS_SOURCE_DIR) + "/tests/golden/tokenization/" + name;
}

/// Lines in many scripts, some empty, some ending in spaces.
std::string many_lines() {
  std::ifstream file(tokenizer_folder("corpus.json"));
  std::string text;
  for (const auto& line : nlohmann::json::parse(file)) {
    text += line.get<std::string>() + (text.size() % 5 == 0 ? "\n\n" : "\n");
  }
  return text;
}

/// Remembers the longest text it was asked for.
class WatchedTokenizer : public Tokenizer {
 public:
  explicit WatchedTokenizer(std::shared_ptr<Tokenizer> tokenizer) : tokenizer_(std::move(tokenizer)) {}

  std::vector<int64_t> encode(std::string_view text, bool add_special_tokens) const override {
    longest = std::max(longest, text.size());
    return tokenizer_->encode(text, add_special_tokens);
  }
  std::vector<int64_t> encode_parts(const std::vector<PromptPart>& parts) const override {
    return tokenizer_->encode_parts(parts);
  }
  std::unique_ptr<StreamingDecoder> streaming_decoder(bool skip) const override {
    return tokenizer_->streaming_decoder(skip);
  }
  int64_t vocab_size() const override { return tokenizer_->vocab_size(); }
  std::optional<int64_t> token_to_id(std::string_view token) const override { return tokenizer_->token_to_id(token); }
  std::optional<std::string> id_to_token(int64_t id) const override { return tokenizer_->id_to_token(id); }
  bool is_special(int64_t id) const override { return tokenizer_->is_special(id); }
  SpecialTokenIds special_token_ids() const override { return tokenizer_->special_token_ids(); }

  mutable size_t longest = 0;

 private:
  std::shared_ptr<Tokenizer> tokenizer_;
};

class TextFileTest : public ::testing::Test {
 protected:
  std::string write(const std::string& text) const {
    const auto path = (folder_.path() / "text.txt").string();
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }

  TemporaryFolder folder_;
};

TEST_F(TextFileTest, PiecesGiveTheIdsOfTheWholeTextWithEveryTokenizer) {
  const auto text = many_lines();
  const auto path = write(text);
  for (const auto* name : {"added", "gpt2", "llama2", "llama2_metaspace", "llama3", "plain", "smollm2", "spm",
                           "spm_unigram", "tiktoken"}) {
    SCOPED_TRACE(name);
    const auto tokenizer = load_tokenizer(tokenizer_folder(name));
    const auto expected = tokenizer->encode(text);
    for (const size_t piece : {700, 4096}) {
      const auto found = encode_text_file(path, *tokenizer, piece);
      EXPECT_TRUE(std::equal(found.begin(), found.end(), expected.begin(), expected.end()));
    }
  }
}

TEST_F(TextFileTest, ByteLevelTokenizersNeverSeeTheWholeText) {
  const auto text = many_lines();
  const auto path = write(text);
  for (const auto* name : {"gpt2", "llama3", "smollm2"}) {
    SCOPED_TRACE(name);
    const WatchedTokenizer tokenizer(load_tokenizer(tokenizer_folder(name)));
    encode_text_file(path, tokenizer, 1024);
    EXPECT_LT(tokenizer.longest, text.size() / 4);
  }
}

TEST_F(TextFileTest, AnEmptyTextHasTheTokensAroundIt) {
  const auto tokenizer = load_tokenizer(tokenizer_folder("llama2"));
  const auto expected = tokenizer->encode("");
  const auto found = encode_text_file(write(""), *tokenizer);
  EXPECT_TRUE(std::equal(found.begin(), found.end(), expected.begin(), expected.end()));
}

TEST(UnprintableNamesTest, AreEscapedInWhatIsSaidOfAFile) {
  const TemporaryFolder folder;
  const auto path = (folder.path() / "line\nbreak.txt").string();
  write_file(path, std::string("a\0b", 3));
  EXPECT_ERROR(check_is_text(path), R"(line\x0abreak.txt)", "is no text");
  write_file(path, "");
  EXPECT_ERROR(JsonLinesFile{path}, R"(line\x0abreak.txt)", "holds no sample");
}

}  // namespace
}  // namespace transformers::testing
