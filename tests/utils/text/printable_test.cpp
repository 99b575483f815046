#include "utils/text/printable.h"

#include <gtest/gtest.h>

namespace transformers {
namespace {

TEST(PrintableTest, KeepsOrdinaryText) { EXPECT_EQ(printable("model/größe 模型.bin"), "model/größe 模型.bin"); }

TEST(PrintableTest, EscapesWhatWouldDisturbATerminal) {
  EXPECT_EQ(printable(std::string_view("a\n\0\x1b[31m\x7f", 9)), "a\\x0a\\x00\\x1b[31m\\x7f");
  EXPECT_EQ(printable("\u202Eabc"), "\\xe2\\x80\\xaeabc");
}

TEST(PrintableTest, EscapesInvalidUtf8ByteByByte) {
  EXPECT_EQ(printable("\xff\xc3("), "\\xff\\xc3(");
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // a surrogate
  EXPECT_EQ(printable("\xc0\xaf"), "\\xc0\\xaf");           // an overlong slash
}

TEST(PrintableTest, CutsAfterTwoHundredCharacters) {
  const std::string longest(200, 'x');
  EXPECT_EQ(printable(longest), longest);
  EXPECT_EQ(printable(longest + "y"), longest + "...");
}

TEST(PrintableTest, EscapesEveryCharacterThatHasNoPlaceOnTheLine) {
  // Arabic letter mark, soft hyphen, word joiner, a right-to-left isolate, an annotation anchor, a tag.
  for (const char* hidden : {"\u061C", "\u00AD", "\u2060", "\u2067", "\uFFF9", "\U000E0041", "\u009B"}) {
    EXPECT_EQ(printable(hidden).find_first_not_of("\\x0123456789abcdef"), std::string::npos);
  }
}

TEST(PrintableTest, AMessageBecomesOneLine) {
  EXPECT_EQ(printable_line("a: b\nc \x1b[31m \u202E"), "a: b c \\x1b[31m \\xe2\\x80\\xae");
  const std::string long_message(1000, 'x');
  EXPECT_EQ(printable_line(long_message), long_message);
  EXPECT_EQ(printable_line(std::string(1'000'000, 'x')).size(), 20'003);
}

TEST(PrintableTest, ListsOfNamesAreCut) {
  EXPECT_EQ(printable_list({"a", "\x1b"}), "a, \\x1b");
  const auto list = printable_list(std::vector<std::string>(123, "n"));
  EXPECT_EQ(list.substr(0, 6), "n, n, ");
  EXPECT_TRUE(list.ends_with("n, and 23 more"));
}

}  // namespace
}  // namespace transformers
