// Mirrors generation/configuration_utils.py, transformers 5.23.0.
#include <c10/util/Exception.h>
#include <transformers/utils/configuration/configuration_utils.h>
#include <transformers/utils/configuration/generation_config.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "utils/configuration/generation_config_fields.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

using Json = nlohmann::ordered_json;

/// A number of a key, or `otherwise` where the key is absent or no number.
double number_or(const std::map<std::string, std::string>& keys, const char* key, double otherwise) {
  const auto found = keys.find(key);
  const auto value = found == keys.end() ? Json() : Json::parse(found->second);
  return value.is_number() ? value.get<double>() : otherwise;
}

/// Whether a key is there and neither null, false nor empty.
bool is_set(const std::map<std::string, std::string>& keys, const char* key) {
  const auto found = keys.find(key);
  const auto value = found == keys.end() ? Json() : Json::parse(found->second);
  return !value.is_null() && value != false && !((value.is_structured() || value.is_string()) && value.empty());
}

template <typename Value, typename Rule>
void check(const char* field, const std::optional<Value>& value, const char* rule, const Rule& holds) {
  TORCH_CHECK(!value || holds(*value), field, " must be ", rule, ", got ", *value);
}

void check_lengths(const GenerationConfig& c) {
  constexpr int64_t longest = (int64_t{1} << 31) - 1;  // sums of these stay far from overflow
  const auto count = [](int64_t v) { return v >= 1 && v <= longest; };
  const auto count_or_none = [](int64_t v) { return v >= 0 && v <= longest; };
  check("max_length", c.max_length, "in [1, 2^31)", count);
  check("max_new_tokens", c.max_new_tokens, "in [1, 2^31)", count);
  check("min_length", c.min_length, "in [0, 2^31)", count_or_none);
  check("min_new_tokens", c.min_new_tokens, "in [0, 2^31)", count_or_none);
  check("no_repeat_ngram_size", c.no_repeat_ngram_size, "in [0, 2^31)", count_or_none);
  check("num_beams", c.num_beams, "in [1, 2^31)", count);
  check("num_return_sequences", c.num_return_sequences, "in [1, 2^31)", count);
  TORCH_CHECK(!c.max_length || c.min_length.value_or(0) <= *c.max_length,
              "min_length must not be above max_length, got ", c.min_length.value_or(0), " and ", *c.max_length);
  if (const auto& decay = c.exponential_decay_length_penalty) {
    TORCH_CHECK(count_or_none(decay->first) && std::isfinite(decay->second),
                "exponential_decay_length_penalty must be [start in [0, 2^31), finite factor], got [", decay->first,
                ", ", decay->second, "]");
  }
}

void check_scores(const GenerationConfig& c) {
  const auto positive = [](auto v) { return v > 0; };
  const auto finite = [](double v) { return std::isfinite(v); };
  const auto cutoff = [](double v) { return v >= 0 && v < 1; };
  check("max_time", c.max_time, "above 0", positive);
  check("guidance_scale", c.guidance_scale, "finite", finite);
  check("length_penalty", c.length_penalty, "finite", finite);
  check("top_k", c.top_k, "0 or above", [](int64_t v) { return v >= 0; });
  check("top_p", c.top_p, "0 or above", [](double v) { return v >= 0; });
  check("min_p", c.min_p, "in [0, 1]", [](double v) { return v >= 0 && v <= 1; });
  check("top_h", c.top_h, "in (0, 1]", [](double v) { return v > 0 && v <= 1; });
  check("typical_p", c.typical_p, "above 0", positive);
  check("epsilon_cutoff", c.epsilon_cutoff, "in [0, 1)", cutoff);
  check("eta_cutoff", c.eta_cutoff, "in [0, 1)", cutoff);
  check("repetition_penalty", c.repetition_penalty, "above 0", positive);
  TORCH_CHECK(!c.temperature || !c.do_sample.value_or(false) || *c.temperature > 0,
              "temperature must be above 0 when sampling, got ", *c.temperature);
}

void check_watermark(const WatermarkingConfig& watermark) {
  TORCH_CHECK(watermark.greenlist_ratio > 0 && watermark.greenlist_ratio < 1,
              "watermarking_config: greenlist_ratio must be in (0, 1), got ", watermark.greenlist_ratio);
  TORCH_CHECK(std::isfinite(watermark.bias), "watermarking_config: bias must be finite, got ", watermark.bias);
  TORCH_CHECK(watermark.hashing_key > 0 && watermark.hashing_key < int64_t{1} << 31,
              "watermarking_config: hashing_key must be in [1, 2^31), got ", watermark.hashing_key);
  TORCH_CHECK(watermark.context_width >= 1, "watermarking_config: context_width must be 1 or above, got ",
              watermark.context_width);
}

void check_assistance(const GenerationConfig& c) {
  const auto count = [](int64_t v) { return v >= 1 && v < int64_t{1} << 31; };
  check("prompt_lookup_num_tokens", c.prompt_lookup_num_tokens, "in [1, 2^31)", count);
  check("max_matching_ngram_size", c.max_matching_ngram_size, "in [1, 2^31)", count);
  check("num_assistant_tokens", c.num_assistant_tokens, "in [1, 2^31)", count);
  check("assistant_confidence_threshold", c.assistant_confidence_threshold, "in [0, 1]",
        [](double v) { return v >= 0 && v <= 1; });
  constexpr std::array<std::string_view, 3> schedules{"constant", "heuristic", "heuristic_transient"};
  const auto schedule = c.num_assistant_tokens_schedule.value_or("constant");
  TORCH_CHECK(std::ranges::find(schedules, schedule) != schedules.end(),
              "num_assistant_tokens_schedule must be \"constant\", \"heuristic\" or \"heuristic_transient\", got \"",
              printable(schedule), "\"");
}

void check_returned(const GenerationConfig& c) {
  const auto returned = c.num_return_sequences.value_or(1), beams = c.num_beams.value_or(1);
  TORCH_CHECK(returned == 1 || (beams == 1 && c.do_sample.value_or(false)) || returned <= beams,
              "num_return_sequences must not be above num_beams", beams == 1 ? " without sampling" : "", ", got ",
              returned, " and ", beams);
}

void check_forced(const char* field, const std::vector<int64_t>& forced, const std::vector<int64_t>& suppressed) {
  const bool all_suppressed =
      std::ranges::all_of(forced, [&](int64_t id) { return std::ranges::find(suppressed, id) != suppressed.end(); });
  TORCH_CHECK(forced.empty() || !all_suppressed, field, " must name a token that suppress_tokens does not, got ",
              forced.front());
}

}  // namespace

void GenerationConfig::validate() const {
  check_lengths(*this);
  check_scores(*this);
  check_returned(*this);
  check_assistance(*this);
  if (watermarking_config) {
    check_watermark(*watermarking_config);
  }
  check_forced("forced_eos_token_id", forced_eos_token_id, suppress_tokens);
  if (forced_bos_token_id) {
    check_forced("forced_bos_token_id", {*forced_bos_token_id}, suppress_tokens);
  }
  TORCH_CHECK(!cache_implementation || *cache_implementation == "dynamic" || *cache_implementation == "static",
              "cache_implementation must be \"dynamic\" or \"static\", got \"",
              printable(cache_implementation.value_or("")), "\"");
}

void GenerationConfig::check_supported() const {
  const auto refuse_if = [](bool asked, const char* key, const char* what) {
    TORCH_CHECK(!asked, "generation config: ", key, " asks for ", what, ", which is not supported; unset it");
  };
  const bool has_beams = num_beams.value_or(1) > 1, samples = do_sample.value_or(false);
  const auto& keys = unknown_keys;
  refuse_if(is_set(keys, "constraints"), "constraints", "constrained beam search");
  refuse_if(is_set(keys, "force_words_ids"), "force_words_ids", "constrained beam search");
  refuse_if(!has_beams && !samples && top_k.value_or(50) > 1 && number_or(keys, "penalty_alpha", 0) > 0,
            "penalty_alpha", "contrastive search");
  refuse_if(has_beams && number_or(keys, "num_beam_groups", 1) > 1, "num_beam_groups", "group beam search");
  refuse_if(!has_beams && is_set(keys, "dola_layers"), "dola_layers", "DoLa decoding");
  refuse_if(is_set(keys, "token_healing"), "token_healing", "token healing");
  refuse_if(is_set(keys, "assistant_early_exit"), "assistant_early_exit", "drafts by the model's first layers");
  refuse_if(is_set(keys, "assistant_ensemble_weight"), "assistant_ensemble_weight", "a mixture with the assistant");
  refuse_if(is_set(keys, "use_mtp"), "use_mtp", "drafts by heads for several tokens");
  refuse_if(number_or(keys, "encoder_repetition_penalty", 1) != 1, "encoder_repetition_penalty",
            "a penalty on the prompt's tokens");
  refuse_if(number_or(keys, "encoder_no_repeat_ngram_size", 0) > 0, "encoder_no_repeat_ngram_size",
            "a ban on the prompt's n-grams");
}

GenerationConfig GenerationConfig::with_defaults(const GenerationConfig& defaults) const {
  GenerationConfig merged = defaults;
  for (const auto& [key, text] : unknown_keys) {
    merged.unknown_keys[key] = text;
  }
  const auto take = [&](const char*, auto member) {
    if (this->*member) {
      merged.*member = this->*member;
    }
  };
  const auto take_list = [&](const char*, auto member) {
    if (!(this->*member).empty()) {
      merged.*member = this->*member;
    }
  };
  visit_generation_fields(take);
  take("early_stopping", &GenerationConfig::early_stopping);
  take("exponential_decay_length_penalty", &GenerationConfig::exponential_decay_length_penalty);
  take("watermarking_config", &GenerationConfig::watermarking_config);
  visit_generation_lists(take_list);
  take_list("forced_eos_token_id", &GenerationConfig::forced_eos_token_id);
  take_list("eos_token_id", &GenerationConfig::eos_token_id);
  return merged;
}

GenerationConfig GenerationConfig::from_model_config(const PretrainedConfig& config) {
  GenerationConfig generation;
  generation.pad_token_id = config.pad_token_id;
  generation.bos_token_id = config.bos_token_id;
  generation.eos_token_id = config.eos_token_id;
  return generation;
}

}  // namespace transformers
