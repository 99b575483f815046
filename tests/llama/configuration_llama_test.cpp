#include <gmock/gmock.h>
#include <transformers/llama/configuration_llama.h>

#include <nlohmann/json.hpp>

#include "support/config_text.h"
#include "support/golden.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

const std::string& tiny() {
  static const std::string text = read_file(source_path("configs/tiny-llama.json"));
  return text;
}

LlamaConfig with(const std::string& key, const std::string& value) {
  return LlamaConfig::from_json(with_value(tiny(), key, value));
}

TEST(LlamaConfigTest, DefaultsAreThoseOfPython) {
  const LlamaConfig config;
  EXPECT_EQ(config.vocab_size, 32000);
  EXPECT_EQ(config.hidden_size, 4096);
  EXPECT_EQ(config.intermediate_size, 11008);
  EXPECT_EQ(config.num_hidden_layers, 32);
  EXPECT_EQ(config.num_attention_heads, 32);
  EXPECT_EQ(config.kv_heads(), 32);
  EXPECT_EQ(config.head_size(), 128);
  EXPECT_EQ(config.hidden_act, Activation::kSilu);
  EXPECT_EQ(config.max_position_embeddings, 2048);
  EXPECT_EQ(config.initializer_range, 0.02);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_TRUE(config.use_cache);
  EXPECT_FALSE(config.pad_token_id);
  EXPECT_EQ(config.bos_token_id, 1);
  EXPECT_EQ(config.eos_token_id, std::vector<int64_t>{2});
  EXPECT_EQ(config.pretraining_tp, 1);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_EQ(config.rope_parameters.rope_theta, 10000);
  EXPECT_FALSE(config.attention_bias);
  EXPECT_FALSE(config.mlp_bias);
  EXPECT_EQ(config.attention_dropout, 0);
  EXPECT_EQ(config.num_labels(), 2);
  EXPECT_TRUE(same_config(LlamaConfig::from_json(R"({"model_type": "llama"})").to_json(), config.to_json()));
}

TEST(LlamaConfigTest, WritesWhatPythonWrites) {
  for (const auto& name : golden_names("models", "llama_")) {
    SCOPED_TRACE(name);
    const Golden golden(golden_path("models", name));
    const auto written = LlamaConfig::from_json(golden.config()).to_json();
    EXPECT_TRUE(same_config(written, golden.config())) << written << golden.config();
  }
}

TEST(LlamaConfigTest, WritesWhatTransformers4Wrote) {
  const Golden golden(golden_path("legacy", "llama_pretraining_tp_2"));
  const auto written = LlamaConfig::from_json(golden.config()).to_json(ConfigFormat::kTransformers4);
  EXPECT_TRUE(holds_old_config(written, golden.config())) << written;
}

TEST(LlamaConfigTest, RopeOfTransformers4HasTheKeysThatItsVersionsTake) {
  const auto written = [](const std::string& rope) {
    const auto text = with("rope_parameters", rope).to_json(ConfigFormat::kTransformers4);
    return nlohmann::json::parse(text);
  };
  const auto linear = written(R"({"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5})");
  EXPECT_EQ(linear["rope_scaling"].dump(), R"({"factor":2.0,"type":"linear"})");
  EXPECT_EQ(linear["rope_theta"], 5e5);
  // The config.json of Llama 3.1.
  const auto llama3 = written(R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
      "high_freq_factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 500000.0})");
  EXPECT_EQ(llama3["rope_scaling"].dump(), R"({"factor":8.0,"high_freq_factor":4.0,"low_freq_factor":1.0,)"
                                           R"("original_max_position_embeddings":16,"rope_type":"llama3"})");
  EXPECT_TRUE(written(R"({"rope_type": "default", "rope_theta": 7.0})")["rope_scaling"].is_null());
  EXPECT_ERROR(written(R"({"rope_type": "proportional", "rope_theta": 7.0})"), "4.x", "proportional");
}

TEST(LlamaConfigTest, WhatIsWrittenForTransformers4IsReadBack) {
  for (const auto& name : golden_names("models", "llama_")) {
    SCOPED_TRACE(name);
    const auto config = LlamaConfig::from_json(Golden(golden_path("models", name)).config());
    if (config.rope_parameters.rope_type != RopeType::kProportional) {
      EXPECT_EQ(LlamaConfig::from_json(config.to_json(ConfigFormat::kTransformers4)).to_json(), config.to_json());
    }
  }
}

TEST(LlamaConfigTest, WhatIsWrittenIsReadBack) {
  for (const auto* preset : {"llama-2-7b", "llama-2-70b", "llama-3.1-8b", "smollm2-135m", "tinyllama-1.1b",
                             "tiny-llama", "bench-llama-1.1b"}) {
    SCOPED_TRACE(preset);
    const auto config = LlamaConfig::from_json(read_file(source_path("configs/" + std::string(preset) + ".json")));
    EXPECT_EQ(LlamaConfig::from_json(config.to_json()).to_json(), config.to_json());
  }
}

TEST(LlamaConfigTest, PresetsHoldThePublishedSizes) {
  const auto preset = [](const std::string& name) {
    return LlamaConfig::from_json(read_file(source_path("configs/" + name + ".json")));
  };
  EXPECT_EQ(preset("llama-2-70b").kv_heads(), 8);
  EXPECT_EQ(preset("llama-2-70b").num_hidden_layers, 80);
  EXPECT_EQ(preset("llama-3.1-8b").rope_parameters.rope_type, RopeType::kLlama3);
  EXPECT_EQ(preset("llama-3.1-8b").rope_parameters.factor, 8.0);
  EXPECT_EQ(preset("llama-3.1-8b").eos_token_id, std::vector<int64_t>{128001});
  EXPECT_TRUE(preset("smollm2-135m").tie_word_embeddings);
  EXPECT_EQ(preset("tinyllama-1.1b").kv_heads(), 4);
}

TEST(LlamaConfigTest, UnknownKeysAreKeptAndWrittenBack) {
  const auto config = with("my_key", R"({"a": [1, null, "x"]})");
  EXPECT_THAT(config.to_json(), ::testing::HasSubstr("my_key"));
  EXPECT_EQ(LlamaConfig::from_json(config.to_json()).unknown_keys.at("my_key"), R"({"a":[1,null,"x"]})");
  const auto nested = with("rope_parameters", R"({"rope_type": "default", "rope_theta": 5.0, "odd": 7})");
  EXPECT_EQ(LlamaConfig::from_json(nested.to_json()).rope_parameters.unknown_keys.at("odd"), "7");
}

TEST(LlamaConfigTest, DtypeIsReadInBothSpellingsAndTheNewOneWins) {
  const auto text = with_value(without_key(tiny(), "dtype"), "torch_dtype", R"("float16")");
  EXPECT_EQ(LlamaConfig::from_json(text).dtype, at::kHalf);
  EXPECT_EQ(LlamaConfig::from_json(with_value(text, "dtype", R"("bfloat16")")).dtype, at::kBFloat16);
  EXPECT_EQ(LlamaConfig::from_json(with_value(text, "dtype", R"("torch.float64")")).dtype, at::kDouble);
  EXPECT_EQ(LlamaConfig::from_json(with_value(text, "torch_dtype", "null")).dtype, std::nullopt);
}

struct RopeSpelling {
  std::string name, key, value;
  RopeType type;
  double theta;
  std::optional<double> factor;
};

class LlamaRopeSpellingTest : public ::testing::TestWithParam<RopeSpelling> {};

TEST_P(LlamaRopeSpellingTest, IsFoldedIntoRopeParameters) {
  const auto& spelling = GetParam();
  auto text = without_key(without_key(without_key(tiny(), "rope_parameters"), "rope_scaling"), "rope_theta");
  text = with_value(text, spelling.key, spelling.value);
  const auto rope = LlamaConfig::from_json(text).rope_parameters;
  EXPECT_EQ(rope.rope_type, spelling.type);
  EXPECT_EQ(rope.rope_theta, spelling.theta);
  EXPECT_EQ(rope.factor, spelling.factor);
}

INSTANTIATE_TEST_SUITE_P(
    , LlamaRopeSpellingTest,
    ::testing::Values(
        RopeSpelling{"nothing", "some_key", "1", RopeType::kDefault, 10000, std::nullopt},
        RopeSpelling{"top_level_theta", "rope_theta", "500000", RopeType::kDefault, 500000, std::nullopt},
        RopeSpelling{"null_scaling", "rope_scaling", "null", RopeType::kDefault, 10000, std::nullopt},
        RopeSpelling{"old_type", "rope_scaling", R"({"type": "linear", "factor": 2.0})", RopeType::kLinear, 10000, 2.0},
        RopeSpelling{"integer_factor", "rope_scaling", R"({"rope_type": "dynamic", "factor": 4})", RopeType::kDynamic,
                     10000, 4.0},
        RopeSpelling{"new_form", "rope_parameters", R"({"rope_type": "linear", "rope_theta": 7.0, "factor": 2.0})",
                     RopeType::kLinear, 7, 2.0},
        RopeSpelling{"theta_beside_scaling", "rope_theta", R"(9.0, "rope_scaling": {"type": "linear", "factor": 2.0})",
                     RopeType::kLinear, 9, 2.0},
        RopeSpelling{"scaling_wins", "rope_scaling",
                     R"({"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "dynamic", "factor": 3.0})",
                     RopeType::kLinear, 10000, 2.0}),
    [](const auto& info) { return info.param.name; });

TEST(LlamaConfigTest, TheOriginalLengthIsFilledIn) {
  const auto text = with_value(tiny(), "rope_parameters", R"({"rope_type": "yarn", "factor": 4.0})");
  const auto config = LlamaConfig::from_json(text);
  EXPECT_EQ(config.rope_parameters.original_max_position_embeddings, config.max_position_embeddings);
  const auto top_level = LlamaConfig::from_json(with_value(text, "original_max_position_embeddings", "33"));
  EXPECT_EQ(top_level.rope_parameters.original_max_position_embeddings, 33);
}

TEST(LlamaConfigTest, AcceptsWhatFilesHold) {
  EXPECT_EQ(with("num_key_value_heads", "null").kv_heads(), with("num_key_value_heads", "null").num_attention_heads);
  EXPECT_EQ(with("head_dim", "6").head_size(), 6);
  EXPECT_EQ(with("head_dim", "null").head_size(),
            LlamaConfig::from_json(tiny()).hidden_size / LlamaConfig::from_json(tiny()).num_attention_heads);
  EXPECT_EQ(with("rms_norm_eps", "1").rms_norm_eps, 1.0);
  EXPECT_EQ(with("eos_token_id", "[2, 3]").eos_token_id, (std::vector<int64_t>{2, 3}));
  EXPECT_TRUE(with("eos_token_id", "null").eos_token_id.empty());
  EXPECT_EQ(with("eos_token_id", "99999").eos_token_id.front(), 99999);
  EXPECT_FALSE(with("pad_token_id", "-1").pad_token_id);
  EXPECT_FALSE(LlamaConfig::from_json(without_key(tiny(), "tie_word_embeddings")).tie_word_embeddings);
  EXPECT_TRUE(with("tie_word_embeddings", "true").tie_word_embeddings);
  const auto even = with_value(with_value(tiny(), "vocab_size", "100"), "intermediate_size", "36");
  EXPECT_EQ(LlamaConfig::from_json(with_value(even, "pretraining_tp", "2")).pretraining_tp, 2);
  EXPECT_EQ(with("num_labels", "5").num_labels(), 5);
  EXPECT_EQ(with("id2label", R"({"0": "no", "1": "yes", "2": "so"})").id2label.at(2), "so");
  EXPECT_EQ(with("problem_type", R"("regression")").problem_type, ProblemType::kRegression);
  EXPECT_FALSE(with("problem_type", "null").problem_type);
  EXPECT_EQ(with("model_type", R"("mistral")").model_type(), "llama");  // with a warning
}

TEST(LlamaConfigTest, GenerationKeysAreNotWrittenBack) {
  const auto config = with("temperature", "0.5");
  EXPECT_THAT(config.to_json(), ::testing::Not(::testing::HasSubstr("temperature")));
}

TEST(LlamaConfigTest, RefusesTextThatIsNoConfig) {
  const auto refuse = [](const std::string& text, const char* fragment) {
    EXPECT_ERROR(LlamaConfig::from_json(text, "dir/config.json"), "dir/config.json", fragment);
  };
  refuse("", "");
  refuse(tiny().substr(0, tiny().size() / 2), "");
  refuse("[]", "object");
  refuse("\"x\"", "object");
  refuse("null", "object");
  refuse(R"({"vocab_size": NaN})", "");
  refuse(R"({"rms_norm_eps": Infinity})", "");
  refuse(R"({"vocab_size": 1, "vocab_size": 2})", "vocab_size");
  refuse(std::string(100, '[') + std::string(100, ']'), "deep");
  refuse("{\"x\": \"" + std::string(1 << 20, 'x') + "\"}", "1048576");
  refuse(R"({"hidden_act": "gelu_old"})", "hidden_act");
  const TemporaryFolder folder;
  EXPECT_ERROR(LlamaConfig::from_pretrained(folder.path().string()), "config.json");
}

class LlamaConfigRefusedTest : public ::testing::TestWithParam<RefusedValue> {};

TEST_P(LlamaConfigRefusedTest, NamesFileAndKey) {
  const auto& [key, value, fragments] = GetParam();
  const auto text = with_value(tiny(), key, value);
  EXPECT_ERROR(LlamaConfig::from_json(text, "dir/config.json"), "dir/config.json");
  for (const auto& fragment : fragments) {
    EXPECT_ERROR(LlamaConfig::from_json(text), fragment);
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, LlamaConfigRefusedTest,
                         ::testing::ValuesIn(refused_sizes({"vocab_size", "hidden_size", "intermediate_size",
                                                            "num_hidden_layers", "num_attention_heads",
                                                            "num_key_value_heads", "max_position_embeddings",
                                                            "head_dim", "pretraining_tp"})));
INSTANTIATE_TEST_SUITE_P(Probabilities, LlamaConfigRefusedTest,
                         ::testing::ValuesIn(refused_probabilities({"attention_dropout", "initializer_range",
                                                                    "classifier_dropout"})));
INSTANTIATE_TEST_SUITE_P(
    Values, LlamaConfigRefusedTest,
    ::testing::Values(
        RefusedValue{"vocab_size", "null", {"vocab_size"}}, RefusedValue{"hidden_size", "null", {"hidden_size"}},
        RefusedValue{"rms_norm_eps", "0", {"rms_norm_eps", "above 0"}},
        RefusedValue{"rms_norm_eps", "-1e-6", {"rms_norm_eps"}}, RefusedValue{"rms_norm_eps", "true", {"rms_norm_eps"}},
        RefusedValue{"rms_norm_eps", R"({"__float__": "Infinity"})", {"rms_norm_eps"}},
        RefusedValue{"num_attention_heads", "3", {"hidden_size", "num_attention_heads", "3"}},
        RefusedValue{"num_key_value_heads", "3", {"num_attention_heads", "num_key_value_heads", "3"}},
        RefusedValue{"num_key_value_heads", "8", {"num_key_value_heads", "8"}},
        RefusedValue{"pretraining_tp", "7", {"pretraining_tp", "7"}},
        RefusedValue{"hidden_act", "\"gelu_old\"", {"hidden_act", "gelu_old"}},
        RefusedValue{"hidden_act", "3", {"hidden_act", "string"}},
        RefusedValue{"dtype", "\"float31\"", {"dtype", "float31"}},
        RefusedValue{"problem_type", "\"guess\"", {"problem_type", "guess"}},
        RefusedValue{"use_cache", "1", {"use_cache", "true or false"}},
        RefusedValue{"tie_word_embeddings", "\"yes\"", {"tie_word_embeddings"}},
        RefusedValue{"eos_token_id", "\"2\"", {"eos_token_id"}},
        RefusedValue{"eos_token_id", "[2.0]", {"eos_token_id"}}, RefusedValue{"pad_token_id", "-2", {"pad_token_id"}},
        RefusedValue{"pad_token_id", "1000000", {"pad_token_id"}}, RefusedValue{"id2label", "[]", {"id2label"}},
        RefusedValue{"id2label", R"({"x": "a"})", {"id2label"}}, RefusedValue{"id2label", R"({"0": 1})", {"id2label"}},
        RefusedValue{"num_labels", "0", {"num_labels"}}, RefusedValue{"num_labels", "9000000000", {"num_labels"}},
        RefusedValue{"num_labels", R"(1, "problem_type": "single_label_classification")", {"single_label", "2 labels"}},
        RefusedValue{"hidden_size", "1000000000000000019884624838656", {"hidden_size", "64-bit integer"}},
        RefusedValue{"num_labels", "65537", {"num_labels", "65536"}},
        RefusedValue{"output_hidden_states", "\"x\"", {"output_hidden_states", "integer"}},
        RefusedValue{"quantization_config", R"({"quant_method": "fp8"})", {"quantization_config", "\"fp8\""}},
        RefusedValue{"quantization_config", "{}", {"quantization_config", "that it does not name"}},
        RefusedValue{"quantization_config", "4", {"quantization_config", "that it does not name"}},
        RefusedValue{"quantization", R"({"bits": 4, "group_size": 64})", {"quantization", "not read"}},
        RefusedValue{"compression_config", R"({"quant_method": "compressed-tensors"})", {"\"compressed-tensors\""}},
        RefusedValue{"architectures", "5", {"architectures"}}));

INSTANTIATE_TEST_SUITE_P(
    Rope, LlamaConfigRefusedTest,
    ::testing::Values(
        RefusedValue{"rope_parameters", R"({"rope_theta": 0})", {"rope_theta", "above 0"}},
        RefusedValue{"rope_theta", "\"big\"", {"rope_theta"}},
        RefusedValue{"rope_scaling", R"({"type": null})", {"rope_scaling", "\"type\"", "null"}},
        RefusedValue{"rope_scaling", R"({"rope_type": null, "factor": 2.0})", {"rope_scaling", "\"rope_type\""}},
        RefusedValue{"rope_parameters", R"({"rope_theta": null})", {"rope_theta", "number"}},
        RefusedValue{"rope_scaling", "true", {"rope_scaling", "JSON object"}},
        RefusedValue{"rope_scaling", "\"linear\"", {"rope_scaling", "JSON object"}},
        RefusedValue{"rope_parameters", "[]", {"rope_parameters"}},
        RefusedValue{"rope_parameters", R"({"rope_type": "ntk"})", {"rope_type", "ntk"}},
        RefusedValue{"rope_parameters", R"({"rope_type": "linear"})", {"linear", "factor"}},
        RefusedValue{"rope_parameters", R"({"rope_type": "linear", "factor": 0})", {"factor", "above 0"}},
        RefusedValue{"rope_parameters", R"({"rope_type": "linear", "factor": -2.0})", {"factor", "above 0"}},
        RefusedValue{"rope_parameters", R"({"rope_type": "linear", "factor": {"__float__": "Infinity"}})", {"factor"}},
        RefusedValue{"rope_parameters", R"({"rope_type": "dynamic"})", {"dynamic", "factor"}},
        RefusedValue{"rope_parameters", R"({"rope_type": "llama3", "factor": 8.0})", {"llama3", "low_freq_factor"}},
        RefusedValue{"rope_parameters",
                     R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0})",
                     {"low_freq_factor", "below high_freq_factor"}},
        RefusedValue{"rope_parameters",
                     R"({"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]})",
                     {"short_factor", "entries", "got 1"}},
        RefusedValue{"rope_parameters", R"({"rope_type": "longrope"})", {"short_factor"}},
        RefusedValue{
            "rope_parameters", R"({"rope_type": "yarn", "factor": 2.0, "attention_factor": 0})", {"attention_factor"}},
        RefusedValue{
            "rope_parameters", R"({"rope_type": "default", "partial_rotary_factor": 1.5})", {"partial_rotary_factor"}},
        RefusedValue{"rope_scaling", R"({"type": "linear", "factor": "2"})", {"factor", "number"}}));

// As transformers 5.23 reads them.
TEST(LlamaConfigTest, WhatIsFalseIsNoRopeScaling) {
  for (const auto* nothing : {"false", "null", "0", "{}", "[]", "\"\""}) {
    const auto rope = LlamaConfig::from_json(R"({"rope_theta": 7.0, "rope_scaling": )" + std::string(nothing) + "}");
    EXPECT_EQ(rope.rope_parameters.rope_type, RopeType::kDefault) << nothing;
    EXPECT_EQ(rope.rope_parameters.rope_theta, 7.0) << nothing;
  }
}

TEST(LlamaConfigTest, ANullThetaIsRefusedUnlessTheObjectHasOne) {
  EXPECT_ERROR(LlamaConfig::from_json(R"({"rope_theta": null})", "c.json"), "c.json", "rope_theta", "null");
  const auto config = LlamaConfig::from_json(R"({"rope_theta": null, "rope_parameters": {"rope_theta": 5.0}})");
  EXPECT_EQ(config.rope_parameters.rope_theta, 5.0);
}

TEST(LlamaConfigTest, OneArchitectureMayStandAlone) {
  const auto config = LlamaConfig::from_json(R"({"architectures": "LlamaForCausalLM", "quantization_config": null})");
  EXPECT_EQ(config.architectures, std::vector<std::string>{"LlamaForCausalLM"});
}

TEST(LlamaConfigTest, HiddenStatesAreChosenByNumber) {
  const auto states = [](const std::string& value) {
    return LlamaConfig::from_json("{\"output_hidden_states\": " + value + "}").output_hidden_states;
  };
  EXPECT_EQ(states("[0, 2]").numbers(), (std::vector<int64_t>{0, 2}));
  EXPECT_TRUE(states("-1").wants(4, 5));
  EXPECT_FALSE(states("-1").wants(3, 5));
  EXPECT_TRUE(states("true").wants(3, 5));
  EXPECT_FALSE(states("0"));
  EXPECT_FALSE(states("[]"));
  LlamaConfig config;
  config.output_hidden_states = {0, 2};
  EXPECT_EQ(LlamaConfig::from_json(config.to_json()).output_hidden_states, config.output_hidden_states);
}

TEST(LlamaConfigTest, RefusesSizesWhoseProductIsBeyondMemory) {
  auto config = LlamaConfig::from_json(tiny());
  config.hidden_size = config.intermediate_size = config.num_hidden_layers = 2147483647;
  config.num_attention_heads = config.num_key_value_heads.emplace(1);
  config.head_dim = 8;
  EXPECT_ERROR(config.validate(), "2^63");
}

TEST(LlamaConfigTest, FoldersAreSavedAndRead) {
  const TemporaryFolder folder;
  const auto config = LlamaConfig::from_json(tiny());
  config.save_pretrained(folder.path().string());
  EXPECT_EQ(read_file(folder / "config.json"), config.to_json());
  EXPECT_EQ(LlamaConfig::from_pretrained(folder.path().string()).to_json(), config.to_json());
}

}  // namespace
}  // namespace transformers::testing
