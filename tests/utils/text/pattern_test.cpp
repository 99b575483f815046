#include "utils/text/pattern.h"

#include <thread>

#include "support/tensor_assertions.h"
#include "utils/text/utf8.h"

namespace transformers::tokenization {
namespace {

using Pieces = std::vector<std::string>;

Pieces pieces(const std::string& regex, const std::string& text, SplitBehavior behavior = SplitBehavior::kIsolated) {
  Pieces result;
  for (const auto piece : split(text, regex_pattern(regex, "file")(text), behavior)) {
    result.emplace_back(piece);
  }
  return result;
}

// The examples of HF's documentation of SplitDelimiterBehavior.
TEST(PatternTest, SplitBehaviorsAreThoseOfHf) {
  const std::string text = "the-final--countdown";
  EXPECT_EQ(pieces("-", text, SplitBehavior::kRemoved), (Pieces{"the", "final", "countdown"}));
  EXPECT_EQ(pieces("-", text, SplitBehavior::kIsolated), (Pieces{"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(pieces("-", text, SplitBehavior::kMergedWithPrevious), (Pieces{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(pieces("-", text, SplitBehavior::kMergedWithNext), (Pieces{"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(pieces("-", text, SplitBehavior::kContiguous), (Pieces{"the", "-", "final", "--", "countdown"}));
}

TEST(PatternTest, ClassesAreUnicode) {
  EXPECT_EQ(pieces(R"(\p{L}+)", "aé日 1"), (Pieces{"aé日", " 1"}));
  EXPECT_EQ(pieces(R"(\s+)", "a\u3000\u2028b"), (Pieces{"a", "\u3000\u2028", "b"}));
  EXPECT_EQ(pieces(R"(\s)", "a\u180Eb"), (Pieces{"a\u180Eb"}));
  EXPECT_EQ(pieces(R"([^\s\p{L}]+)", "a\u180E b"), (Pieces{"a", "\u180E", " b"}));
  EXPECT_EQ(pieces(R"((?i:'s))", "x'S"), (Pieces{"x", "'S"}));
  EXPECT_EQ(pieces(R"([]x])", "a]x"), (Pieces{"a", "]", "x"}));
  EXPECT_EQ(pieces(R"([[:upper:]]+)", "aBCd"), (Pieces{"a", "BC", "d"}));
}

TEST(PatternTest, EmptyMatchesAdvance) { EXPECT_EQ(pieces("x*", "éax"), (Pieces{"é", "a", "x"})); }

TEST(PatternTest, RefusesWhatTheEnginesReadDifferently) {
  for (const auto* regex : {"[a&&b]", "[a[b]]", R"(\h)", R"([\H])", "(?m:a)", "(?s)a", "(?x) a", R"(a\Kb)", R"(\Ga)"}) {
    EXPECT_ERROR(regex_pattern(regex, "some/file"), "some/file: unsupported component: the regex");
  }
  for (const auto* regex : {"(", "[a", "a{2,1}", R"(\p{Nonsense})", "*", "\\"}) {
    EXPECT_ERROR(regex_pattern(regex, "some/file"), "some/file: the regex", "does not compile");
  }
  EXPECT_ERROR(regex_pattern(std::string(100'000, 'a'), "some/file"), "at most 65536 bytes, found 100000");
}

TEST(PatternTest, ExplodingRegexIsAnErrorAndNoHang) {
  const auto pattern = regex_pattern("(a+)+$", "some/file");
  auto text = std::string(64, 'a');
  text.back() = 'b';
  EXPECT_ERROR(pattern(text), "some/file: the regex (a+)+$ cannot be matched", "limit");
}

TEST(PatternTest, ThreadsShareAPattern) {
  const auto pattern = regex_pattern(R"(\p{L}+)", "file");
  std::vector<size_t> counts(4);
  std::vector<std::thread> threads;
  for (auto& count : counts) {
    threads.emplace_back([&] { count = pattern("one two three").size(); });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(counts, std::vector<size_t>(4, 5));
}

}  // namespace
}  // namespace transformers::tokenization
