#include "utils/tokenization/decoder.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace transformers::tokenization {
namespace {

std::vector<std::string> results(const std::string& json, const std::vector<std::string>& tokens) {
  const auto value = nlohmann::ordered_json::parse(json);
  auto decoder = make_decoder(JsonNode(value, "file"));
  std::vector<std::string> texts;
  for (const auto& token : tokens) {
    texts.push_back(decoder.push(token));
  }
  texts.push_back(decoder.finish());
  return texts;
}

using Texts = std::vector<std::string>;

TEST(DecoderTest, ByteFallbackJudgesARunAsAWhole) {
  const std::string json = R"({"type": "ByteFallback"})";
  EXPECT_EQ(results(json, {"<0xE2>", "<0x82>", "<0xAC>", "a"}), (Texts{"", "", "", "€a", ""}));
  // One bad byte spoils the run: HF writes one U+FFFD a byte.
  EXPECT_EQ(results(json, {"<0x41>", "<0xFF>", "a"}), (Texts{"", "", "\uFFFD\uFFFDa", ""}));
  EXPECT_EQ(results(json, {"<0x41>"}), (Texts{"", "A"}));
  EXPECT_EQ(results(json, {"<0xE2>"}), (Texts{"", "\uFFFD"}));
}

TEST(DecoderTest, StripTakesFromTheStartOfTheWholeText) {
  const std::string json =
      R"({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 2, "stop": 0}]})";
  EXPECT_EQ(results(json, {" ", " ", " ", " a"}), (Texts{"", "", " ", " a", ""}));
  EXPECT_EQ(results(json, {"a", " b"}), (Texts{"a", " b", ""}));
}

TEST(DecoderTest, StripWithoutFuseTakesFromEachToken) {
  const std::string json = R"({"type": "Strip", "content": "H", "start": 1, "stop": 0})";
  EXPECT_EQ(results(json, {"Hey", " friend!", "HHH"}), (Texts{"ey", " friend!", "HH", ""}));
}

TEST(DecoderTest, MetaspaceDropsSpacesOfTheFirstTokenOnly) {
  const std::string always = R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"})";
  EXPECT_EQ(results(always, {"▁a▁b", "▁c"}), (Texts{"ab", " c", ""}));
  const std::string never = R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"})";
  EXPECT_EQ(results(never, {"▁a", "▁c"}), (Texts{" a", " c", ""}));
}

TEST(DecoderTest, ByteLevelReplacesWhatNeverBecomesACharacter) {
  const std::string json = R"({"type": "ByteLevel"})";
  EXPECT_EQ(results(json, {"Ġa", "Ã", "©"}), (Texts{" a", "", "é", ""}));
  EXPECT_EQ(results(json, {"Ã", "a"}), (Texts{"", "\uFFFDa", ""}));
  EXPECT_EQ(results(json, {"日", "Ã"}), (Texts{"日", "", "\uFFFD"}));
}

}  // namespace
}  // namespace transformers::tokenization
