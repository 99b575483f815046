#include <gtest/gtest.h>
#include <transformers/utils/peft/lora_config.h>

#include <nlohmann/json.hpp>

#include "support/golden_collection.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

TEST(LoraConfigTest, AnEmptyFileHasPeftsDefaults) {
  const auto c = LoraConfig::from_json("{}");
  EXPECT_EQ(c.r, 8);
  EXPECT_EQ(c.lora_alpha, 8);
  EXPECT_EQ(c.lora_dropout, 0);
  EXPECT_EQ(c.bias, LoraBias::kNone);
  EXPECT_EQ(c.init_lora_weights, LoraInit::kKaiming);
  EXPECT_TRUE(c.target_modules.empty() && c.modules_to_save.empty());
  EXPECT_FALSE(c.use_rslora || c.use_dora || c.lora_bias || c.inference_mode);
}

TEST(LoraConfigTest, PeftsFilesComeBackKeyForKey) {
  for (const auto* family : {"llama", "gptj"}) {
    for (const auto& golden : golden_cases("lora", std::string("adapters_") + family)) {
      if (golden.name != "start") {
        SCOPED_TRACE(golden.name);
        const auto& config = golden.arguments.at("config");
        auto written = nlohmann::json::parse(LoraConfig::from_json(config.dump()).to_json());
        auto expected = config;
        for (auto* json : {&written, &expected}) {
          json->erase("fan_in_fan_out");
        }
        if (expected["layers_pattern"].is_string()) {
          expected["layers_pattern"] = {expected["layers_pattern"]};
        }
        EXPECT_EQ(written, expected);
      }
    }
  }
}

TEST(LoraConfigTest, UnknownKeysAreKept) {
  const auto c = LoraConfig::from_json(R"({"r": 3, "from_the_future": {"a": [1, null]}})");
  EXPECT_EQ(c.unknown_keys.at("from_the_future"), R"({"a":[1,null]})");
  EXPECT_EQ(nlohmann::json::parse(c.to_json()).at("from_the_future"), nlohmann::json::parse(R"({"a": [1, null]})"));
}

TEST(LoraConfigTest, ReadsOneOrMany) {
  const auto c = LoraConfig::from_json(
      R"({"target_modules": ["q"], "exclude_modules": ".*x", "layers_to_transform": 3, "layers_pattern": "h"})");
  EXPECT_EQ(c.target_modules.names, std::vector<std::string>{"q"});
  EXPECT_EQ(c.exclude_modules.regex, ".*x");
  EXPECT_EQ(c.layers_to_transform, std::vector<int64_t>{3});
  EXPECT_EQ(c.layers_pattern, std::vector<std::string>{"h"});
}

struct Refused {
  const char* text;
  std::vector<std::string> fragments;
};

TEST(LoraConfigTest, RefusesWhatItCannotObey) {
  const std::vector<Refused> table{
      {R"([])", {"object"}},
      {R"({"peft_type": "IA3"})", {"peft_type", "LORA", "IA3"}},
      {R"({"r": 0})", {"r must lie in [1, 2^31)", "0"}},
      {R"({"r": 4294967296})", {"r must lie in"}},
      {R"({"r": "8"})", {"\"r\"", "integer"}},
      {R"({"r": 8.0})", {"\"r\"", "integer"}},
      {R"({"lora_alpha": null})", {"lora_alpha", "number"}},
      {R"({"lora_dropout": 1.0})", {"lora_dropout", "[0, 1)", "1"}},
      {R"({"lora_dropout": -0.1})", {"lora_dropout", "-0.1"}},
      {R"({"bias": "some"})", {"bias", "lora_only", "some"}},
      {R"({"use_dora": 1})", {"use_dora", "true or false"}},
      {R"({"use_dora": true, "lora_bias": true})", {"lora_bias", "use_dora"}},
      {R"({"lora_bias": true, "init_lora_weights": "gaussian"})", {"lora_bias", "init_lora_weights"}},
      {R"({"init_lora_weights": "pissa"})", {"init_lora_weights", "gaussian", "pissa"}},
      {R"({"target_modules": {"q": 1}})", {"target_modules", "list of strings"}},
      {R"({"target_modules": [1]})", {"target_modules", "list of strings"}},
      {R"({"target_modules": "x", "layers_to_transform": [1]})", {"layers_to_transform", "list of names", "x"}},
      {R"({"layers_pattern": ["h"]})", {"layers_pattern needs layers_to_transform"}},
      {R"({"rank_pattern": {"q": 0}})", {"rank_pattern", "q", "0"}},
      {R"({"rank_pattern": ["q"]})", {"rank_pattern", "object"}},
      {R"({"rank_pattern": {"q": 1.5}})", {"rank_pattern", "q", "integer"}},
      {R"({"alpha_pattern": {"q": "x"}})", {"alpha_pattern", "q", "number"}},
      {R"({"layer_replication": [[0, 2]]})", {"layer_replication", "must be off"}},
      {R"({"trainable_token_indices": [3]})", {"trainable_token_indices", "must be off"}},
      {R"({"use_qalora": true})", {"use_qalora", "must be off"}},
      {R"({"fan_in_fan_out": true})", {"fan_in_fan_out", "must be off"}},
      {R"({"r": 8, "r": 9})", {"r"}},
  };
  for (const auto& [text, fragments] : table) {
    SCOPED_TRACE(text);
    for (const auto& fragment : fragments) {
      EXPECT_ERROR(LoraConfig::from_json(text, "a.json"), "a.json", fragment);
    }
  }
}

TEST(LoraConfigTest, AMissingFileIsNamed) {
  const TemporaryFolder folder;
  EXPECT_ERROR(LoraConfig::from_pretrained(folder.path().string()), "adapter_config.json");
}

}  // namespace
}  // namespace transformers::testing
