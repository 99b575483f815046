#include "utils/tokenization/rank_file.h"

#include <transformers/utils/tokenization/tokenizer.h>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/tokenization/golden_files.h"

namespace transformers {
namespace {

using tokenization::looks_like_rank_file;
using tokenization::make_bpe_from_ranks;

std::string golden_ranks() { return testing::read_file(testing::golden_path("tiktoken/tokenizer.model")); }

TEST(RankFileTest, IsToldFromASentencePieceModel) {
  EXPECT_TRUE(looks_like_rank_file("IQ== 0\n"));
  EXPECT_TRUE(looks_like_rank_file("IQ== 0\r\nIg== 1"));
  EXPECT_FALSE(looks_like_rank_file(testing::read_file(testing::golden_path("spm/tokenizer.model"))));
  EXPECT_FALSE(looks_like_rank_file(""));
}

TEST(RankFileTest, RefusesBadLines) {
  const std::vector<std::pair<std::string, std::string>> table{
      {"IQ=", "expected a base64 token, a space and a rank, found IQ="},
      {"IQ= 5", "found IQ= 5"},
      {"I!== 900", "found I!== 900"},
      {"IWFi", "found IWFi"},
      {"IWFi -1", "found IWFi -1"},
      {"IWFi 2147483648", "found IWFi 2147483648"},
      {"IWFi 1.0", "found IWFi 1.0"},
      {"IWFi 9 9", "found IWFi 9 9"},
      {" 900", "found  900"},
      {"IQ== 900", "is listed twice"},
      {"enp6 5", "gives id 5 to both"},
  };
  for (const auto& [line, message] : table) {
    EXPECT_ERROR(make_bpe_from_ranks(golden_ranks() + line + "\n", "some/file"), "some/file", message);
  }
}

TEST(RankFileTest, RefusesEndlessTokens) {
  std::string line(400, 'A');
  line.append(" 900\n");
  EXPECT_ERROR(make_bpe_from_ranks(golden_ranks() + line, "some/file"), "a token of at most 256 bytes, found 300");
}

TEST(RankFileTest, NamesTheLine) {
  EXPECT_ERROR(make_bpe_from_ranks("IQ== 0\n\nnonsense\n", "some/file"), "some/file: line 3");
}

TEST(RankFileTest, EveryByteNeedsARank) {
  EXPECT_ERROR(make_bpe_from_ranks("IQ== 0\n", "some/file"), "the byte 0 has no rank");
}

TEST(RankFileTest, RefusesAddedTokensThatClash) {
  const testing::TemporaryFolder folder;
  testing::write_file(folder / "tokenizer.model", golden_ranks());
  testing::write_file(folder / "tokenizer_config.json", R"({"added_tokens_decoder": {"5": {"content": "<x>"}}})");
  EXPECT_ERROR(load_tokenizer(folder.path()), "<x> has id 5, which the vocabulary gives to");
}

}  // namespace
}  // namespace transformers
