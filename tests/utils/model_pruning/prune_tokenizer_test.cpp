#include <gmock/gmock.h>
#include <transformers/utils/model_pruning/prune_tokenizer.h>
#include <transformers/utils/tokenization/tokenizer.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

using Json = nlohmann::json;

std::string golden_tokenizer(const std::string& kind) { return source_path("tests/golden/tokenization/" + kind); }

Json tokenizer_json(const std::string& kind) {
  return Json::parse(read_file(golden_tokenizer(kind) + "/tokenizer.json"));
}

/// Every token that is needed, and of the others each second one.
std::vector<int64_t> half_of(const std::string& kind) {
  const auto json = tokenizer_json(kind);
  const bool by_bytes = json["model"].value("byte_fallback", false);
  std::set<int64_t> kept;
  for (const auto& [token, id] : json["model"]["vocab"].items()) {
    const bool is_byte = token.size() == 6 && token.starts_with("<0x");
    if (by_bytes ? is_byte : token.size() < 3 || id.get<int64_t>() % 2 == 0) {
      kept.insert(id.get<int64_t>());
    }
    if (by_bytes && id.get<int64_t>() % 2 == 0) {
      kept.insert(id.get<int64_t>());
    }
  }
  for (const auto& token : json["added_tokens"]) {
    kept.insert(token["id"].get<int64_t>());
  }
  return {kept.begin(), kept.end()};
}

class PruneTokenizerTest : public ::testing::TestWithParam<std::string> {
 protected:
  void write(const PrunedTokenizer& pruned) const {
    for (const auto& [name, text] : pruned.files) {
      write_file(folder_ / name, text);
    }
  }
  const TemporaryFolder folder_;
};

TEST_P(PruneTokenizerTest, TextsComeBackWithTokensThatStayed) {
  const auto kept = half_of(GetParam());
  const auto pruned = prune_tokenizer(golden_tokenizer(GetParam()), kept);
  ASSERT_EQ(pruned.refusal, "");
  write(pruned);
  const auto before = load_tokenizer(golden_tokenizer(GetParam()));
  const auto after = load_tokenizer(folder_.path().string());
  ASSERT_LT(after->vocab_size(), before->vocab_size());
  for (const std::string text : {"Hello world", "The library reads 1234 tensors, doesn't it?", "äöü 東京 \n\t x", ""}) {
    const auto ids = after->encode(text);
    EXPECT_EQ(after->decode(ids), before->decode(before->encode(text))) << text;
    for (const auto id : ids) {
      ASSERT_LT(id, static_cast<int64_t>(kept.size()));
      EXPECT_EQ(after->id_to_token(id), before->id_to_token(kept[static_cast<size_t>(id)]));
    }
  }
  EXPECT_EQ(after->special_token_ids().eos.has_value(), before->special_token_ids().eos.has_value());
}

TEST_P(PruneTokenizerTest, KeepingEverythingChangesNoId) {
  std::vector<int64_t> all(static_cast<size_t>(load_tokenizer(golden_tokenizer(GetParam()))->vocab_size()));
  for (size_t i = 0; i < all.size(); ++i) {
    all[i] = static_cast<int64_t>(i);
  }
  const auto pruned = prune_tokenizer(golden_tokenizer(GetParam()), all);
  ASSERT_EQ(pruned.refusal, "");
  EXPECT_EQ(Json::parse(pruned.files.at("tokenizer.json")), tokenizer_json(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(, PruneTokenizerTest, ::testing::Values("smollm2", "gpt2", "llama2", "llama3"));

class PruneTokenizerRefusalTest : public ::testing::Test {
 protected:
  static std::string refusal(const std::string& kind, const std::function<bool(const std::string&, int64_t)>& goes) {
    std::vector<int64_t> kept;
    const auto tokenizer = load_tokenizer(golden_tokenizer(kind));
    for (int64_t id = 0; id < tokenizer->vocab_size(); ++id) {
      if (!goes(tokenizer->id_to_token(id).value_or(""), id)) {
        kept.push_back(id);
      }
    }
    const auto pruned = prune_tokenizer(golden_tokenizer(kind), kept);
    EXPECT_EQ(pruned.files.size(), 1) << "only the map is written";
    EXPECT_EQ(Json::parse(pruned.files.at("vocab_map.json")).size(), kept.size());
    return pruned.refusal;
  }
};

TEST_F(PruneTokenizerRefusalTest, OfATokenizerThatCouldNotWriteEveryText) {
  EXPECT_THAT(refusal("smollm2", [](const auto& token, int64_t) { return token == "e"; }),
              ::testing::HasSubstr("\"e\" is gone"));
  EXPECT_THAT(refusal("llama2", [](const auto& token, int64_t) { return token == "<0x0A>"; }),
              ::testing::HasSubstr("<0x0A>"));
}

TEST_F(PruneTokenizerRefusalTest, OfATokenizerWithoutItsSpecialTokens) {
  EXPECT_THAT(refusal("llama2", [](const auto& token, int64_t) { return token == "<s>"; }),
              ::testing::HasSubstr("put around every text"));
  EXPECT_THAT(refusal("llama2", [](const auto& token, int64_t) { return token == "<unk>"; }),
              ::testing::HasSubstr("unknown token"));
  EXPECT_THAT(refusal("smollm2", [](const auto& token, int64_t) { return token == "<|im_end|>"; }),
              ::testing::HasSubstr("<|im_end|>"));
}

TEST_F(PruneTokenizerRefusalTest, OfOtherKinds) {
  EXPECT_THAT(prune_tokenizer(golden_tokenizer("spm"), {0, 1}).refusal, ::testing::HasSubstr("only tokenizer.json"));
  const TemporaryFolder folder;
  EXPECT_EQ(prune_tokenizer(folder.path().string(), {0, 2}).refusal, "");
  EXPECT_EQ(prune_tokenizer(folder.path().string(), {0, 2}).files.at("vocab_map.json"),
            "{\n  \"0\": 0,\n  \"2\": 1\n}\n");
  write_file(folder / "tokenizer.json", R"({"model": {"type": "WordPiece", "vocab": {}}})");
  EXPECT_THAT(prune_tokenizer(folder.path().string(), {0}).refusal, ::testing::HasSubstr("not a BPE"));
  write_file(folder / "tokenizer.json", R"({"model": []})");
  EXPECT_NE(prune_tokenizer(folder.path().string(), {0}).refusal, "");
  write_file(folder / "tokenizer.json", "{");
  EXPECT_ERROR(prune_tokenizer(folder.path().string(), {0}), "tokenizer.json");
}

}  // namespace
}  // namespace transformers::testing
