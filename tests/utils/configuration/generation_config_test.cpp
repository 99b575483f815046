#include <gtest/gtest.h>
#include <transformers/utils/configuration/generation_config.h>

#include <string>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

/// Every field set.
const char* const kEverything = R"({
  "bad_words_ids": [[1, 2], [3]], "begin_suppress_tokens": [4], "bos_token_id": 1, "cache_implementation": "static",
  "do_sample": true, "early_stopping": "never", "eos_token_id": [2, 5], "epsilon_cutoff": 0.1, "eta_cutoff": 0.2,
  "exponential_decay_length_penalty": [3, 1.5], "forced_bos_token_id": 6, "forced_eos_token_id": 7,
  "guidance_scale": 1.5, "length_penalty": 0.5, "max_length": 50, "max_new_tokens": 9, "max_time": 2.5,
  "min_length": 3, "min_new_tokens": 2, "min_p": 0.05, "no_repeat_ngram_size": 3, "num_beams": 4,
  "num_return_sequences": 2, "output_logits": true, "output_scores": false, "pad_token_id": 0,
  "remove_invalid_values": true, "renormalize_logits": true, "repetition_penalty": 1.2,
  "sequence_bias": [[[8, 9], -1.5]], "stop_strings": ["a", "b"], "suppress_tokens": [10, 11], "temperature": 0.7,
  "top_h": 0.9, "top_k": 20, "top_p": 0.8, "typical_p": 0.6, "use_cache": false,
  "watermarking_config": {"greenlist_ratio": 0.5, "bias": 1.0, "hashing_key": 7, "seeding_scheme": "selfhash",
                          "context_width": 2},
  "somebody_elses_key": {"kept": [1, 2]}
})";

TEST(GenerationConfigTest, EveryFieldIsReadAndWrittenBack) {
  const auto config = GenerationConfig::from_json(kEverything);
  EXPECT_EQ(config.max_new_tokens, 9);
  EXPECT_EQ(config.guidance_scale, 1.5);
  EXPECT_EQ(config.early_stopping, EarlyStopping::kNever);
  EXPECT_EQ(config.eos_token_id, (std::vector<int64_t>{2, 5}));
  EXPECT_EQ(config.forced_eos_token_id, (std::vector<int64_t>{7}));
  EXPECT_EQ(config.sequence_bias.at(0).second, -1.5);
  EXPECT_EQ(config.exponential_decay_length_penalty->first, 3);
  EXPECT_EQ(config.use_cache, false);
  EXPECT_EQ(config.unknown_keys.size(), 1U);

  const auto again = GenerationConfig::from_json(config.to_json());
  EXPECT_EQ(again.to_json(), config.to_json());
  for (const char* key :
       {"bad_words_ids", "top_h", "stop_strings", "selfhash", "somebody_elses_key", "min_new_tokens"}) {
    EXPECT_NE(config.to_json().find(key), std::string::npos) << key;
  }
}

TEST(GenerationConfigTest, AFolderGivesBackWhatWasSaved) {
  const TemporaryFolder folder;
  const auto config = GenerationConfig::from_json(kEverything);
  config.save_pretrained(folder.path().string());
  EXPECT_EQ(GenerationConfig::from_pretrained(folder.path().string()).to_json(), config.to_json());
}

// As transformers 5.23 writes them (`_encode_special_floats`).
TEST(GenerationConfigTest, InfinitiesAndNanAreWrittenAsTheyAreRead) {
  for (const char* number : {"Infinity", "-Infinity", "NaN"}) {
    const auto tagged = std::string(R"("temperature": {)") + "\n    \"__float__\": \"" + number + "\"\n  }";
    const auto text = GenerationConfig::from_json("{" + tagged + "}").to_json();
    EXPECT_NE(text.find(tagged), std::string::npos) << text;
    EXPECT_EQ(GenerationConfig::from_json(text).to_json(), text);
  }
}

TEST(GenerationConfigTest, WithoutItsFileTheModelsConfigSpeaks) {
  const TemporaryFolder folder;
  write_file(folder / "config.json", R"({"model_type": "llama", "eos_token_id": 7, "temperature": 0.5, "x": 1})");
  const auto config = GenerationConfig::from_pretrained(folder.path().string());
  EXPECT_EQ(config.eos_token_id, (std::vector<int64_t>{7}));
  EXPECT_EQ(config.temperature, 0.5);
  EXPECT_TRUE(config.unknown_keys.empty());
}

TEST(GenerationConfigTest, WhatIsSaidGoesBeforeDefaultsFieldByField) {
  const auto defaults = GenerationConfig::from_json(kEverything);
  EXPECT_EQ(GenerationConfig{}.with_defaults(defaults).to_json(), defaults.to_json());
  const GenerationConfig said{.max_new_tokens = 1,
                              .early_stopping = EarlyStopping::kYes,
                              .use_cache = true,
                              .bad_words_ids = {{9}},
                              .eos_token_id = {6}};
  const auto merged = said.with_defaults(defaults);
  EXPECT_EQ(merged.max_new_tokens, 1);
  EXPECT_EQ(merged.early_stopping, EarlyStopping::kYes);
  EXPECT_EQ(merged.use_cache, true);
  EXPECT_EQ(merged.bad_words_ids, (std::vector<std::vector<int64_t>>{{9}}));
  EXPECT_EQ(merged.eos_token_id, (std::vector<int64_t>{6}));
  EXPECT_EQ(merged.top_k, 20);
  EXPECT_EQ(merged.suppress_tokens, (std::vector<int64_t>{10, 11}));
}

TEST(GenerationConfigTest, AnEmptyListOfEndTokensIsNoneAndNotUnset) {
  const GenerationConfig defaults{.eos_token_id = {6}};
  const auto merged = [&](const char* text) { return GenerationConfig::from_json(text).with_defaults(defaults); };
  EXPECT_EQ(merged(R"({"eos_token_id": []})").eos_token_id, (std::vector<int64_t>{-1}));
  EXPECT_EQ(merged(R"({"eos_token_id": null})").eos_token_id, (std::vector<int64_t>{6}));
  EXPECT_EQ(merged("{}").eos_token_id, (std::vector<int64_t>{6}));
}

TEST(GenerationConfigTest, WhatFilesHoldIsAccepted) {
  for (const char* text :
       {"{}", R"({"eos_token_id": null, "pad_token_id": -1})", R"({"temperature": 1, "top_p": 2.0, "top_k": 0})",
        R"({"temperature": 0.0})", R"({"early_stopping": false, "stop_strings": "end"})",
        R"({"_from_model_config": true, "transformers_version": "5.23.0", "guidance_scale": null})"}) {
    SCOPED_TRACE(text);
    EXPECT_NO_THROW(GenerationConfig::from_json(text));
  }
  EXPECT_EQ(GenerationConfig::from_json(R"({"pad_token_id": -1})").pad_token_id, std::nullopt);
}

struct Refusal {
  const char* text;
  const char* field;
  const char* rule;
};

class GenerationConfigRefusalTest : public ::testing::TestWithParam<Refusal> {};

TEST_P(GenerationConfigRefusalTest, NamesFileFieldAndRule) {
  const auto& [text, field, rule] = GetParam();
  SCOPED_TRACE(text);
  EXPECT_ERROR(GenerationConfig::from_json(text, "g.json"), "g.json", field, rule);
}

INSTANTIATE_TEST_SUITE_P(
    Files, GenerationConfigRefusalTest,
    ::testing::Values(
        Refusal{"", "", ""}, Refusal{"{", "", ""}, Refusal{"[]", "object", ""},
        Refusal{R"({"top_k": 1, "top_k": 2})", "top_k", "duplicate key"}, Refusal{R"({"max_time": NaN})", "", ""},
        Refusal{R"({"temperature": 1e400})", "", ""}, Refusal{R"({"top_k": 1.0})", "top_k", "integer"},
        Refusal{R"({"top_k": "50"})", "top_k", "integer"}, Refusal{R"({"top_k": true})", "top_k", "integer"},
        Refusal{R"({"top_k": 18446744073709551615})", "top_k", "integer"},
        Refusal{R"({"temperature": "hot"})", "temperature", "number"},
        Refusal{R"({"do_sample": 1})", "do_sample", "true or false"},
        Refusal{R"({"do_sample": true, "temperature": 0})", "temperature", "above 0"},
        Refusal{R"({"do_sample": true, "temperature": {"__float__": "NaN"}})", "temperature", "above 0"},
        Refusal{R"({"top_p": -0.1})", "top_p", "0 or above"}, Refusal{R"({"top_k": -1})", "top_k", "0 or above"},
        Refusal{R"({"min_p": 1.1})", "min_p", "in [0, 1]"}, Refusal{R"({"top_h": 0})", "top_h", "in (0, 1]"},
        Refusal{R"({"typical_p": 0})", "typical_p", "above 0"},
        Refusal{R"({"epsilon_cutoff": 1})", "epsilon_cutoff", "in [0, 1)"},
        Refusal{R"({"eta_cutoff": -1})", "eta_cutoff", "in [0, 1)"},
        Refusal{R"({"repetition_penalty": 0})", "repetition_penalty", "above 0"},
        Refusal{R"({"length_penalty": {"__float__": "Infinity"}})", "length_penalty", "finite"},
        Refusal{R"({"guidance_scale": {"__float__": "NaN"}})", "guidance_scale", "finite"},
        Refusal{R"({"max_new_tokens": 0})", "max_new_tokens", "in [1, 2^31)"},
        Refusal{R"({"max_new_tokens": 2147483648})", "max_new_tokens", "in [1, 2^31)"},
        Refusal{R"({"max_length": -5})", "max_length", "in [1, 2^31)"},
        Refusal{R"({"min_length": 9, "max_length": 8})", "min_length", "max_length"},
        Refusal{R"({"max_time": 0})", "max_time", "above 0"},
        Refusal{R"({"num_beams": 0})", "num_beams", "in [1, 2^31)"},
        Refusal{R"({"num_return_sequences": 2})", "num_return_sequences", "without sampling"},
        Refusal{R"({"num_beams": 2, "num_return_sequences": 3, "do_sample": true})", "num_return_sequences",
                "num_beams"},
        Refusal{R"({"early_stopping": "sometimes"})", "early_stopping", "never"},
        Refusal{R"({"early_stopping": 1})", "early_stopping", "never"},
        Refusal{R"({"cache_implementation": "hybrid"})", "cache_implementation", "hybrid"},
        Refusal{R"({"bad_words_ids": [1]})", "bad_words_ids", "lists of token ids"},
        Refusal{R"({"bad_words_ids": [[]]})", "bad_words_ids", "lists of token ids"},
        Refusal{R"({"bad_words_ids": [[-1]]})", "bad_words_ids", "lists of token ids"},
        Refusal{R"({"sequence_bias": [[[1], "x"]]})", "sequence_bias", "bias"},
        Refusal{R"({"exponential_decay_length_penalty": [1]})", "exponential_decay_length_penalty", "factor"},
        Refusal{R"({"exponential_decay_length_penalty": [-1, 1.0]})", "exponential_decay_length_penalty", "start"},
        Refusal{R"({"forced_eos_token_id": 3, "suppress_tokens": [3]})", "forced_eos_token_id", "suppress_tokens"},
        Refusal{R"({"watermarking_config": 3})", "watermarking_config", "object"},
        Refusal{R"({"watermarking_config": {"seeding_scheme": "x"}})", "seeding_scheme", "lefthash"},
        Refusal{R"({"watermarking_config": {"greenlist_ratio": 1}})", "greenlist_ratio", "in (0, 1)"},
        Refusal{R"({"watermarking_config": {"ngram_len": 5}})", "watermarking_config", "ngram_len"},
        Refusal{R"({"watermarking_config": {"hashing_key": 0}})", "hashing_key", "in [1, 2^31)"},
        Refusal{R"({"watermarking_config": {"context_width": 0}})", "context_width", "1 or above"},
        Refusal{R"({"eos_token_id": "</s>"})", "eos_token_id", "integer"}));

}  // namespace
}  // namespace transformers::testing
