#include <transformers/utils/tokenization/sentencepiece_tokenizer.h>

#include <cmath>
#include <cstring>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/tokenization/golden_files.h"
#include "utils/tokenization/sentencepiece_model.h"

namespace transformers {
namespace {

using Ids = std::vector<int64_t>;
using testing::golden_path;

std::string model_bytes(const std::string& kind) { return testing::read_file(golden_path(kind + "/tokenizer.model")); }

std::shared_ptr<Tokenizer> load_bytes(const std::string& bytes) {
  const testing::TemporaryFolder folder;
  testing::write_file(folder / "tokenizer.model", bytes);
  return load_tokenizer(folder.path());
}

/// One protobuf field with a length.
std::string field(int number, const std::string& bytes) {
  std::string result(1, static_cast<char>(number << 3 | 2));
  size_t size = bytes.size();
  for (; size >= 0x80; size >>= 7) {
    result += static_cast<char>((size & 0x7F) | 0x80);
  }
  return result + static_cast<char>(size) + bytes;
}

std::string uint32_bytes(uint32_t value) {
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

TEST(SentencePieceTokenizerTest, RefusesFilesThatAreNoModel) {
  EXPECT_ERROR(load_bytes(""), "tokenizer.model", "empty file");
  EXPECT_ERROR(load_bytes("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), "Git LFS");
  EXPECT_ERROR(load_bytes("<!DOCTYPE html><html></html>"), "HTML");
  EXPECT_ERROR(load_bytes("hello"), "tokenizer.model", "not a SentencePiece model");
  EXPECT_ERROR(load_bytes(std::string(100, '\xFF')), "a number has more than 64 bits");
  EXPECT_ERROR(load_bytes("\x0A\xFF\xFF\xFF\xFF\x0F"), "a field reaches past the end");
  EXPECT_ERROR(load_bytes(field(1, "\x0A\x7Fx")), "a field reaches past the end");
}

// SentencePiece's data must not lie over LibTorch's, where it made every failed allocation end the process.
TEST(SentencePieceTokenizerTest, LeavesLibTorchsOwnDataAlone) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer refuses deep binding, and then the two share symbols";
#endif
  EXPECT_GT(load_bytes(model_bytes("spm"))->encode("a word").size(), 0);
  EXPECT_THROW(at::empty({int64_t{1} << 50}), c10::Error);
}

TEST(SentencePieceTokenizerTest, RefusesEveryTruncation) {
  const auto bytes = model_bytes("spm");
  for (size_t size = 0; size < bytes.size(); size += size < 300 || size > bytes.size() - 300 ? 1 : 97) {
    EXPECT_ERROR(load_bytes(bytes.substr(0, size)), "tokenizer.model");
  }
}

TEST(SentencePieceTokenizerTest, RefusesScoresThatAreNoNumbers) {
  auto score = uint32_bytes(0x7FC00000);
  EXPECT_ERROR(tokenization::check_sentencepiece_model(field(1, field(1, "a") + "\x15" + score), "some/file"),
               "some/file", "the score of a piece is nan");
}

TEST(SentencePieceTokenizerTest, RefusesDamagedCharacterRewrites) {
  const auto check = [](const std::string& map) {
    tokenization::check_sentencepiece_model(field(2, "") + field(3, field(2, map)), "some/file");
  };
  const std::string zeros(1024, '\0');
  check(uint32_bytes(1024) + zeros + std::string(1, '\0'));
  const std::vector<std::string> damaged{
      "abc",                                                                                 // no room for the size
      uint32_bytes(0) + std::string(1, '\0'),                                                // no units
      uint32_bytes(1025) + zeros + std::string(1, '\0'),                                     // size past the end
      uint32_bytes(1024) + zeros,                                                            // no texts
      uint32_bytes(1024) + zeros + "x",                                                      // texts without an end
      uint32_bytes(1020) + zeros.substr(4) + std::string(1, '\0'),                           // a child may lie outside
      uint32_bytes(1024) + uint32_bytes(1U << 20) + zeros.substr(4) + std::string(1, '\0'),  // offset outside
  };
  for (const auto& map : damaged) {
    EXPECT_ERROR(check(map), "some/file", "its table of character rewrites is damaged");
  }
}

TEST(SentencePieceTokenizerTest, FlippedBytesNeverCrash) {
  auto bytes = model_bytes("spm_unigram");
  for (size_t at = 0; at < bytes.size(); at += 1999) {
    auto damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x5A);
    try {
      const auto tokenizer = load_bytes(damaged);
      tokenizer->decode(tokenizer->encode("ﬁ Ｆｕｌｌ e\u0301 ½ text"));
    } catch (const c10::Error&) {
      // refusing is as good as reading
    }
  }
}

TEST(SentencePieceTokenizerTest, ConfigDecidesOnBosAndEos) {
  const testing::TemporaryFolder folder;
  testing::write_file(folder / "tokenizer.model", model_bytes("spm"));
  const auto plain = load_tokenizer(folder.path())->encode("text");
  const auto with_config = [&](const std::string& config) {
    testing::write_file(folder / "tokenizer_config.json", config);
    return load_tokenizer(folder.path())->encode("text");
  };
  auto with_bos = plain;
  with_bos.insert(with_bos.begin(), 1);
  auto with_eos = plain;
  with_eos.push_back(2);
  EXPECT_EQ(with_config("{}"), plain);
  EXPECT_EQ(with_config(R"({"add_bos_token": true})"), with_bos);
  EXPECT_EQ(with_config(R"({"add_eos_token": true})"), with_eos);
  EXPECT_EQ(with_config(R"({"tokenizer_class": "LlamaTokenizer"})"), with_bos);
  EXPECT_EQ(with_config(R"({"tokenizer_class": "LlamaTokenizer", "add_bos_token": false})"), plain);
}

TEST(SentencePieceTokenizerTest, ControlTokensInTextArePlainText) {
  const auto tokenizer = load_tokenizer(golden_path("spm"));
  const auto ids = tokenizer->encode("<s></s>", /*add_special_tokens=*/false);
  EXPECT_EQ(std::count_if(ids.begin(), ids.end(), [](int64_t id) { return id == 1 || id == 2; }), 0);
  EXPECT_EQ(tokenizer->decode(ids), "<s></s>");
}

TEST(SentencePieceTokenizerTest, ReadsTokensAddedAfterThePieces) {
  const testing::TemporaryFolder folder;
  testing::write_file(folder / "tokenizer.model", model_bytes("spm"));
  testing::write_file(folder / "tokenizer_config.json",
                      R"({"pad_token": "<pad>", "added_tokens_decoder": {"900": {"content": "<pad>", "special": true},
                          "1": {"content": "<s>", "special": true}, "905": {"content": "<tool>"}}})");
  const auto tokenizer = load_tokenizer(folder.path());
  EXPECT_EQ(tokenizer->vocab_size(), 902);
  EXPECT_EQ(tokenizer->special_token_ids().pad, 900);
  EXPECT_EQ(tokenizer->encode("<pad><tool>"), (Ids{900, 905}));
  EXPECT_EQ(tokenizer->decode(Ids{900, 905}), "<tool>");
  EXPECT_EQ(tokenizer->decode(Ids{900, 905}, /*skip_special_tokens=*/false), "<pad><tool>");
  EXPECT_FALSE(tokenizer->id_to_token(901));
  EXPECT_ERROR(tokenizer->decode(Ids{901}), "there is no token with id 901");
  EXPECT_ERROR(tokenizer->decode(Ids{-1}), "there is no token with id -1");
  testing::write_file(folder / "added_tokens.json", R"({"<pad>": 900, "<tool>": 905})");
  testing::write_file(folder / "tokenizer_config.json", R"({"pad_token": "<pad>", "sep_token": "<sep>"})");
  EXPECT_EQ(load_tokenizer(folder.path())->encode("<pad><tool><sep>"), (Ids{900, 905, 906}));
  testing::write_file(folder / "added_tokens.json", R"({"<pad>": 5})");
  testing::write_file(folder / "tokenizer_config.json", "{}");
  EXPECT_ERROR(load_tokenizer(folder.path()), "the added token <pad> has id 5, which tokenizer.model gives to <0x02>");
}

TEST(SentencePieceTokenizerTest, StreamsAnyIdsAsDecodeDoes) {
  // Byte pieces in any order, spaces, control pieces: the window must never change what comes out.
  for (const auto* kind : {"spm", "spm_unigram"}) {
    const auto tokenizer = load_tokenizer(golden_path(kind));
    uint32_t state = 1;
    for (int round = 0; round < 200; ++round) {
      Ids ids;
      for (int i = 0; i < 12; ++i) {
        state = state * 1664525U + 1013904223U;
        ids.push_back((state >> 8) % (round % 2 == 0 ? 300 : tokenizer->vocab_size()));
      }
      std::string text;
      const auto decoder = tokenizer->streaming_decoder();
      for (const auto id : ids) {
        text += decoder->push(id);
      }
      EXPECT_EQ(text + decoder->finish(), tokenizer->decode(ids));
    }
  }
}

}  // namespace
}  // namespace transformers
