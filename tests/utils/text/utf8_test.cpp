#include "utils/text/utf8.h"

#include <gtest/gtest.h>

#include <vector>

#include "utils/text/base64.h"
#include "utils/text/byte_level.h"

namespace transformers::tokenization {
namespace {

TEST(Utf8Test, ReplacesEachMaximalPart) {
  // Unicode 15, table 3-8 and its neighbours.
  const std::vector<std::pair<std::string, std::string>> table{
      {"abc é 日 😀", "abc é 日 😀"},
      {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41",
       "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"
       "A"},
      {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41",
       "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"
       "A"},
      {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42",
       "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"
       "A"
       "\uFFFD\uFFFD"
       "B"},
      {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41",
       "\uFFFD\uFFFD\uFFFD\uFFFD"
       "A"},
      {"\xE2\x82", "\uFFFD"},
  };
  for (const auto& [bytes, text] : table) {
    EXPECT_EQ(valid_utf8(bytes), text);
    EXPECT_EQ(is_valid_utf8(bytes), bytes == text);
  }
}

TEST(Utf8Test, KnowsWhatLaterBytesCannotChange) {
  EXPECT_EQ(finished_length(""), 0);
  EXPECT_EQ(finished_length("a\xE2"), 1);
  EXPECT_EQ(finished_length("a\xE2\x82"), 1);
  EXPECT_EQ(finished_length("a\xE2\x82\xAC"), 4);
  EXPECT_EQ(finished_length("\xF0\x9F\x98"), 0);
  EXPECT_EQ(finished_length("\xE0\x80"), 2);  // never becomes valid
  EXPECT_EQ(finished_length("\xFF"), 1);
}

TEST(Utf8Test, ClassesFollowUnicode) {
  EXPECT_TRUE(is_numeric(U'1') && is_numeric(U'\u0661') && is_numeric(U'½') && is_numeric(U'Ⅷ'));
  EXPECT_FALSE(is_numeric(U'a') || is_numeric(U'一'));
  EXPECT_TRUE(is_whitespace(U' ') && is_whitespace(U'\u0085') && is_whitespace(U'\u3000') && is_whitespace(U'\v'));
  EXPECT_FALSE(is_whitespace(U'\u180E') || is_whitespace(U'\u200B') || is_whitespace(U'\x1C'));
  EXPECT_TRUE(is_word(U'_') && is_word(U'é') && is_word(U'\u0301') && is_word(U'Ⓐ') && is_word(U'\u200D'));
  EXPECT_FALSE(is_word(U'-') || is_word(U' ') || is_word(U'½'));
}

TEST(ByteLevelTest, EveryByteComesBack) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) {
    bytes += static_cast<char>(byte);
  }
  EXPECT_EQ(bytes_to_characters(" \n!\xFF"), "ĠĊ!ÿ");
  EXPECT_EQ(characters_to_bytes(bytes_to_characters(bytes)), bytes);
  EXPECT_FALSE(characters_to_bytes("Ġ日"));
}

TEST(ByteLevelTest, ByteTokensAreExactlyTwoHexadecimalDigits) {
  EXPECT_EQ(byte_of_token("<0xE2>"), '\xE2');
  EXPECT_EQ(byte_of_token("<0x0a>"), '\n');
  for (const auto* token : {"<0x-1>", "<0x100>", "<0xG0>", "<0x 1>", "0xE2", "<0xE2", ""}) {
    EXPECT_FALSE(byte_of_token(token)) << token;
  }
}

TEST(Base64Test, ReadsPaddedTextOnly) {
  EXPECT_EQ(decode_base64("aGVsbG8="), "hello");
  EXPECT_EQ(decode_base64("AP8="), std::string("\0\xFF", 2));
  EXPECT_EQ(decode_base64("////"), "\xFF\xFF\xFF");
  EXPECT_EQ(decode_base64(""), "");
  for (const auto* text : {"a", "ab", "abc", "ab=c", "====", "a===", "ab c", "ab\n=", "ab-_"}) {
    EXPECT_FALSE(decode_base64(text)) << text;
  }
}

}  // namespace
}  // namespace transformers::tokenization
