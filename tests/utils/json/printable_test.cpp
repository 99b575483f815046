#include "utils/json/printable.h"

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

}  // namespace
}  // namespace transformers
