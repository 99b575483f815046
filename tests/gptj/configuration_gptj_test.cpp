#include <gmock/gmock.h>
#include <transformers/gptj/configuration_gptj.h>

#include "support/config_text.h"
#include "support/golden.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

const std::string& tiny() {
  static const std::string text = read_file(source_path("configs/tiny-gptj.json"));
  return text;
}

GPTJConfig with(const std::string& key, const std::string& value) {
  return GPTJConfig::from_json(with_value(tiny(), key, value));
}

TEST(GPTJConfigTest, DefaultsAreThoseOfPython) {
  const GPTJConfig config;
  EXPECT_EQ(config.vocab_size, 50400);
  EXPECT_EQ(config.n_positions, 2048);
  EXPECT_EQ(config.n_embd, 4096);
  EXPECT_EQ(config.n_layer, 28);
  EXPECT_EQ(config.n_head, 16);
  EXPECT_EQ(config.rotary_dim, 64);
  EXPECT_EQ(config.inner_size(), 4 * 4096);
  EXPECT_EQ(config.activation_function, Activation::kGeluNew);
  EXPECT_EQ(config.resid_pdrop + config.embd_pdrop + config.attn_pdrop, 0);
  EXPECT_EQ(config.layer_norm_epsilon, 1e-5);
  EXPECT_EQ(config.initializer_range, 0.02);
  EXPECT_TRUE(config.use_cache);
  EXPECT_EQ(config.bos_token_id, 50256);
  EXPECT_EQ(config.eos_token_id, std::vector<int64_t>{50256});
  EXPECT_FALSE(config.pad_token_id);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_TRUE(same_config(GPTJConfig::from_json(R"({"model_type": "gptj"})").to_json(), config.to_json()));
}

TEST(GPTJConfigTest, WritesWhatPythonWrites) {
  for (const auto& name : golden_names("models", "gptj_")) {
    SCOPED_TRACE(name);
    const Golden golden(golden_path("models", name));
    const auto written = GPTJConfig::from_json(golden.config()).to_json();
    EXPECT_TRUE(same_config(written, golden.config())) << written << golden.config();
  }
}

TEST(GPTJConfigTest, WritesWhatTransformers4Wrote) {
  const Golden golden(golden_path("legacy", "gptj_head_mask"));
  const auto written = GPTJConfig::from_json(golden.config()).to_json(ConfigFormat::kTransformers4);
  EXPECT_TRUE(holds_old_config(written, golden.config())) << written;
}

TEST(GPTJConfigTest, WhatIsWrittenIsReadBack) {
  for (const auto* preset : {"gptj-6b", "tiny-gptj", "bench-gptj-1b"}) {
    SCOPED_TRACE(preset);
    const auto config = GPTJConfig::from_json(read_file(source_path("configs/" + std::string(preset) + ".json")));
    EXPECT_EQ(GPTJConfig::from_json(config.to_json()).to_json(), config.to_json());
  }
}

TEST(GPTJConfigTest, ThePublishedConfigKeepsItsOddKeys) {
  const auto config = GPTJConfig::from_json(read_file(source_path("configs/gptj-6b.json")));
  EXPECT_EQ(config.n_layer, 28);
  EXPECT_EQ(config.rotary_dim, 64);
  for (const auto* key : {"summary_type", "scale_attn_weights", "rotary", "task_specific_params", "tokenizer_class"}) {
    EXPECT_TRUE(config.unknown_keys.contains(key)) << key;
    EXPECT_THAT(config.to_json(), ::testing::HasSubstr(key));
  }
}

TEST(GPTJConfigTest, AliasesAreReadAndWrittenAsOneValue) {
  const std::vector<std::array<std::string, 3>> aliases{{"n_positions", "max_position_embeddings", "17"},
                                                        {"n_embd", "hidden_size", "64"},
                                                        {"n_head", "num_attention_heads", "2"},
                                                        {"n_layer", "num_hidden_layers", "5"}};
  for (const auto& [name, alias, value] : aliases) {
    SCOPED_TRACE(alias);
    const auto config = GPTJConfig::from_json(with_value(without_key(tiny(), name), alias, value));
    const auto written = config.to_json();
    EXPECT_THAT(written, ::testing::HasSubstr("\"" + name + "\": " + value));
    EXPECT_THAT(written, ::testing::Not(::testing::HasSubstr(alias)));
    EXPECT_ERROR(GPTJConfig::from_json(with_value(tiny(), alias, "9999"), "dir/config.json"), "dir/config.json", name,
                 alias, "agree", "9999");
  }
  EXPECT_EQ(with("n_embd", "32").get_hidden_size(), 32);
  EXPECT_EQ(with("n_layer", "3").get_num_hidden_layers(), 3);
  EXPECT_EQ(with("n_positions", "17").get_max_position_embeddings(), 17);
}

TEST(GPTJConfigTest, AcceptsWhatFilesHold) {
  EXPECT_EQ(with("n_inner", "null").inner_size(), 4 * GPTJConfig::from_json(tiny()).n_embd);
  EXPECT_EQ(with("n_inner", "12").inner_size(), 12);
  EXPECT_EQ(with("layer_norm_epsilon", "1").layer_norm_epsilon, 1.0);
  EXPECT_EQ(with("pad_token_id", "100000").pad_token_id, 100000);  // with a warning
  EXPECT_FALSE(with("pad_token_id", "-1").pad_token_id);
  EXPECT_EQ(with("torch_dtype", R"("float16")").dtype.has_value(), true);
}

class GPTJConfigRefusedTest : public ::testing::TestWithParam<RefusedValue> {};

TEST_P(GPTJConfigRefusedTest, NamesFileAndKey) {
  const auto& [key, value, fragments] = GetParam();
  const auto text = with_value(tiny(), key, value);
  EXPECT_ERROR(GPTJConfig::from_json(text, "dir/config.json"), "dir/config.json");
  for (const auto& fragment : fragments) {
    EXPECT_ERROR(GPTJConfig::from_json(text), fragment);
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, GPTJConfigRefusedTest,
                         ::testing::ValuesIn(refused_sizes({"vocab_size", "n_positions", "n_embd", "n_layer", "n_head",
                                                            "n_inner"})));
INSTANTIATE_TEST_SUITE_P(Probabilities, GPTJConfigRefusedTest,
                         ::testing::ValuesIn(refused_probabilities({"resid_pdrop", "embd_pdrop", "attn_pdrop",
                                                                    "initializer_range"})));
INSTANTIATE_TEST_SUITE_P(
    Values, GPTJConfigRefusedTest,
    ::testing::Values(RefusedValue{"n_head", "3", {"n_embd", "n_head", "3"}},
                      RefusedValue{"rotary_dim", "0", {"rotary_dim", "got 0"}},
                      RefusedValue{"rotary_dim", "3", {"rotary_dim", "even", "got 3"}},
                      RefusedValue{"rotary_dim", "1000", {"rotary_dim", "got 1000"}},
                      RefusedValue{"rotary_dim", "null", {"rotary_dim"}},
                      RefusedValue{"rotary_dim", "4.0", {"rotary_dim", "integer"}},
                      RefusedValue{"activation_function", "\"gelu_old\"", {"activation_function", "gelu_old"}},
                      RefusedValue{"layer_norm_epsilon", "0", {"layer_norm_epsilon"}},
                      RefusedValue{"layer_norm_epsilon", "-1", {"layer_norm_epsilon"}},
                      RefusedValue{"pad_token_id", "-7", {"pad_token_id"}}));

TEST(GPTJConfigTest, RefusesSizesWhoseProductIsBeyondMemory) {
  auto config = GPTJConfig::from_json(tiny());
  config.n_embd = config.n_layer = 2147483646;
  config.n_head = 1;
  EXPECT_ERROR(config.validate(), "2^63");
}

}  // namespace
}  // namespace transformers::testing
