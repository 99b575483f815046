#include "utils/json/strict_json.h"

#include <nlohmann/json.hpp>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/files/internal/json_file.h"

namespace transformers {
namespace {

using nlohmann::ordered_json;
using testing::TemporaryFolder;
using testing::write_file;

std::string nested(int depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(StrictJsonTest, KeepsTheOrderOfKeysAndTheTypesOfNumbers) {
  const auto value =
      parse_strict_json(R"( {"b": 1, "a": [true, null, 2.0, -3, 18446744073709551615, "x"], "c": {}} )", "t");
  EXPECT_EQ(value.dump(), R"({"b":1,"a":[true,null,2.0,-3,18446744073709551615,"x"],"c":{}})");
  EXPECT_TRUE(value["a"][2].is_number_float());
  EXPECT_TRUE(value["a"][3].is_number_integer());
  EXPECT_TRUE(value["b"].is_number_unsigned());
}

// Python writes such integers, and most stand where nobody looks.
TEST(StrictJsonTest, IntegersBeyondSixtyFourBitsAreNumbersAndNoIntegers) {
  const auto value = parse_strict_json(R"({"a": [18446744073709551616, -9223372036854775809]})", "t");
  EXPECT_TRUE(value["a"][0].is_number_float());
  EXPECT_FALSE(value["a"][0].is_number_integer());
  EXPECT_EQ(value["a"][0], 18446744073709551616.0);
  EXPECT_EQ(value["a"][1], -9223372036854775808.0);
}

TEST(StrictJsonTest, PassesTaggedFloatsThrough) {
  const auto value = parse_strict_json(R"({"x": {"__float__": "Infinity"}})", "t");
  EXPECT_EQ(value["x"]["__float__"], "Infinity");
}

TEST(StrictJsonTest, AcceptsTheSameKeyInDifferentObjects) {
  EXPECT_NO_THROW(parse_strict_json(R"({"a": {"a": [{"a": 1}, {"a": 2}]}})", "t"));
}

struct BadText {
  const char* what;
  std::string text;
  std::string fragment;
};

class RefusedJsonTest : public ::testing::TestWithParam<BadText> {};

TEST_P(RefusedJsonTest, IsOneErrorThatNamesTheSource) {
  EXPECT_ERROR(parse_strict_json(GetParam().text, "some/config.json"), "some/config.json: ", GetParam().fragment);
}

INSTANTIATE_TEST_SUITE_P(
    Texts, RefusedJsonTest,
    ::testing::Values(
        BadText{"Empty", "", "found an empty text"}, BadText{"OnlySpace", "  \n", "not valid JSON at byte"},
        BadText{"Truncated", R"({"a": 1)", "not valid JSON at byte"},
        BadText{"ByteOrderMark", "\xEF\xBB\xBF{}", "byte order mark"},
        BadText{"NulInside", std::string("{\0}", 3), "NUL at byte 1"},
        BadText{"NulAfter", std::string("{}\0", 3), "NUL at byte 2"},
        BadText{"InvalidUtf8", "{\"a\": \"\xff\"}", "not valid JSON at byte 8"},
        BadText{"InvalidUtf8Key", "{\"\xc3\": 1}", "not valid JSON at byte"},
        BadText{"LoneSurrogate", R"({"a": "\ud800"})", "surrogate"},
        BadText{"DuplicateKey", R"({"a": 1, "b": 2, "a": 3})", "duplicate key a"},
        BadText{"DuplicateNestedKey", R"({"x": [{}, {"y": {"a": 1, "a": 3}}]})", "duplicate key x[1].y.a"},
        BadText{"DuplicateEscapedKey", R"({"a": 1, "\u0061": 3})", "duplicate key a"},
        BadText{"NaN", R"({"a": NaN})", "not valid JSON at byte"},
        BadText{"Infinity", R"({"a": -Infinity})", "not valid JSON at byte"},
        BadText{"Overflow", R"({"a": 1e400})", "number overflow parsing '1e400'"},
        BadText{"LineComment", "{} // x", "not valid JSON at byte"},
        BadText{"BlockComment", R"({/* x */"a": 1})", "not valid JSON at byte"},
        BadText{"TrailingText", "{} x", "not valid JSON at byte"}, BadText{"SecondValue", "{}{}", "not valid JSON"},
        BadText{"TrailingComma", R"({"a": 1,})", "not valid JSON at byte"},
        BadText{"UnterminatedString", R"({"a": "x)", "not valid JSON at byte"},
        BadText{"SingleQuotes", "{'a': 1}", "not valid JSON at byte 2"},
        BadText{"LeadingZero", R"({"a": 01})", "not valid JSON at byte"},
        BadText{"TooDeep", nested(65), "nested deeper than 64 levels"},
        BadText{"FarTooDeep", nested(100000), "nested deeper than 64 levels"},
        BadText{"TooDeepUnclosed", std::string(100000, '['), "nested deeper than 64 levels"},
        BadText{"TooLarge", std::string((1 << 20) + 1, ' '), "at most 1048576 bytes of JSON, found 1048577"},
        BadText{"LfsPointer", "version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"},
        BadText{"HtmlPage", "\n<!DOCTYPE html><html>", "an HTML page"}),
    [](const auto& info) { return info.param.what; });

TEST(StrictJsonTest, AcceptsTheLimitsThemselves) {
  EXPECT_NO_THROW(parse_strict_json(nested(64), "t"));
  EXPECT_NO_THROW(parse_strict_json(std::string((1 << 20) - 1, ' ') + "1", "t"));
  EXPECT_NO_THROW(parse_strict_json(nested(100), "t", {.max_depth = 100}));
}

TEST(StrictJsonTest, ErrorsNeverRepeatRawBytes) {
  try {
    parse_strict_json("{\"\x1b[31m\": 1}", "t");
    FAIL();
  } catch (const c10::Error& error) {
    EXPECT_EQ(std::string(error.what_without_backtrace()).find('\x1b'), std::string::npos);
  }
}

TEST(StrictJsonTest, ReadsFilesAndNamesThem) {
  const TemporaryFolder folder;
  write_file(folder / "good.json", R"({"a": 1})");
  write_file(folder / "bad.json", "[1,");
  EXPECT_EQ(read_json_file(folder / "good.json")["a"], 1);
  EXPECT_ERROR(read_json_file(folder / "bad.json"), "bad.json: not valid JSON");
  EXPECT_ERROR(read_json_file(folder / "good.json", {.max_bytes = 7}), "good.json", "at most 7 bytes");
}

TEST(StrictJsonTest, LargeObjectsAreNotQuadratic) {
  std::string text = "{";
  for (int i = 0; i < 300000; ++i) {
    text += "\"piece " + std::to_string(i) + "\": " + std::to_string(i) + ",";
  }
  text.back() = '}';
  // Searching for each key on insertion would need 4.5e10 comparisons: minutes instead of a fraction of a second.
  EXPECT_EQ(parse_strict_json(text, "t", {.max_bytes = text.size()}).size(), 300000);
}

TEST(StrictJsonTest, AValueThatIsKeptHasALimitOnItsParts) {
  EXPECT_EQ(parse_strict_json("[[],1,{}]", "f", {.max_values = 4}).size(), 3);
  EXPECT_ERROR(parse_strict_json("[[],1,{},2]", "f", {.max_values = 4}), "f: expected at most 4 JSON values");
}

}  // namespace
}  // namespace transformers
