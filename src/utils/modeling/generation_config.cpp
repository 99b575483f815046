// Mirrors generation/configuration_utils.py, transformers 5.23.0.
#include <c10/util/Exception.h>
#include <transformers/utils/io/save_transaction.h>
#include <transformers/utils/modeling/configuration_utils.h>
#include <transformers/utils/modeling/generation_config.h>

#include <algorithm>
#include <any>
#include <cmath>
#include <filesystem>

#include "utils/json/config_reader.h"
#include "utils/json/config_writer.h"
#include "utils/json/regular_file.h"
#include "utils/json/strict_json.h"

namespace transformers {
namespace {

// One list of the plain fields serves reading, writing and merging.
template <typename Config, typename Visit>
void visit_plain_fields(Config& c, const Visit& visit) {
  visit("max_length", c.max_length);
  visit("max_new_tokens", c.max_new_tokens);
  visit("min_length", c.min_length);
  visit("min_new_tokens", c.min_new_tokens);
  visit("max_time", c.max_time);
  visit("do_sample", c.do_sample);
  visit("num_beams", c.num_beams);
  visit("length_penalty", c.length_penalty);
  visit("num_return_sequences", c.num_return_sequences);
  visit("use_cache", c.use_cache);
  visit("cache_implementation", c.cache_implementation);
  visit("guidance_scale", c.guidance_scale);
  visit("temperature", c.temperature);
  visit("top_k", c.top_k);
  visit("top_p", c.top_p);
  visit("min_p", c.min_p);
  visit("top_h", c.top_h);
  visit("typical_p", c.typical_p);
  visit("epsilon_cutoff", c.epsilon_cutoff);
  visit("eta_cutoff", c.eta_cutoff);
  visit("repetition_penalty", c.repetition_penalty);
  visit("no_repeat_ngram_size", c.no_repeat_ngram_size);
  visit("renormalize_logits", c.renormalize_logits);
  visit("forced_bos_token_id", c.forced_bos_token_id);
  visit("remove_invalid_values", c.remove_invalid_values);
  visit("output_scores", c.output_scores);
  visit("output_logits", c.output_logits);
  visit("pad_token_id", c.pad_token_id);
  visit("bos_token_id", c.bos_token_id);
}

using Json = nlohmann::ordered_json;

bool is_id(const Json& value) { return value.is_number_integer() && value >= 0 && value <= int64_t{1} << 31; }

std::vector<int64_t> id_list(const ConfigReader& reader, const std::string& key, const Json& value) {
  if (!value.is_array() || value.empty() || !std::all_of(value.begin(), value.end(), is_id)) {
    reader.fail(key, "made of non-empty lists of token ids");
  }
  return value.get<std::vector<int64_t>>();
}

void read_early_stopping(ConfigReader& reader, std::optional<EarlyStopping>& field) {
  const auto* value = reader.take("early_stopping");
  if (value == nullptr || value->is_null()) {
    return;
  }
  if (value->is_boolean()) {
    field = value->get<bool>() ? EarlyStopping::kYes : EarlyStopping::kNo;
  } else if (*value == "never") {
    field = EarlyStopping::kNever;
  } else {
    reader.fail("early_stopping", "true, false or \"never\"");
  }
}

void read_lists(ConfigReader& reader, GenerationConfig& c) {
  if (const auto* words = reader.take("bad_words_ids"); words != nullptr && !words->is_null()) {
    if (!words->is_array()) {
      reader.fail("bad_words_ids", "a list of lists of token ids");
    }
    for (const auto& word : *words) {
      c.bad_words_ids.push_back(id_list(reader, "bad_words_ids", word));
    }
  }
  if (const auto* biases = reader.take("sequence_bias"); biases != nullptr && !biases->is_null()) {
    if (!biases->is_array()) {
      reader.fail("sequence_bias", "a list of [token ids, bias]");
    }
    for (const auto& bias : *biases) {
      if (!bias.is_array() || bias.size() != 2 || !bias[1].is_number()) {
        reader.fail("sequence_bias", "a list of [token ids, bias]");
      }
      c.sequence_bias.emplace_back(id_list(reader, "sequence_bias", bias[0]), bias[1].get<double>());
    }
  }
  if (const auto* stops = reader.take("stop_strings"); stops != nullptr && stops->is_string()) {
    c.stop_strings = {stops->get<std::string>()};
  } else {
    reader.read("stop_strings", c.stop_strings);
  }
}

void read_decay(ConfigReader& reader, GenerationConfig& c) {
  const char* key = "exponential_decay_length_penalty";
  const auto* decay = reader.take(key);
  if (decay == nullptr || decay->is_null()) {
    return;
  }
  if (!decay->is_array() || decay->size() != 2 || !(*decay)[0].is_number_integer() || !(*decay)[1].is_number()) {
    reader.fail(key, "[start, factor]");
  }
  c.exponential_decay_length_penalty = {(*decay)[0].get<int64_t>(), (*decay)[1].get<double>()};
}

void read_fields(ConfigReader& reader, GenerationConfig& c) {
  visit_plain_fields(c, [&](const char* key, auto& field) { reader.read(key, field); });
  read_early_stopping(reader, c.early_stopping);
  read_lists(reader, c);
  read_decay(reader, c);
  reader.read_one_or_many("eos_token_id", c.eos_token_id);
  reader.read_one_or_many("forced_eos_token_id", c.forced_eos_token_id);
  reader.read_one_or_many("suppress_tokens", c.suppress_tokens);
  reader.read_one_or_many("begin_suppress_tokens", c.begin_suppress_tokens);
  if (c.pad_token_id == -1) {
    c.pad_token_id.reset();
  }
}

GenerationConfig read_text(std::string_view text, const std::string& source, bool keep_unknown) {
  const auto json = parse_strict_json(text, source);
  ConfigReader reader(json, source);
  GenerationConfig config;
  read_fields(reader, config);
  for (const char* key : {"_from_model_config", "transformers_version"}) {
    reader.ignore(key);
  }
  if (keep_unknown) {
    config.unknown_keys = reader.rest();
  }
  try {
    config.validate();
  } catch (const c10::Error& error) {
    TORCH_CHECK(false, source, ": ", error.what_without_backtrace());
  }
  return config;
}

template <typename Value, typename Rule>
void check(const char* field, const std::optional<Value>& value, const char* rule, const Rule& holds) {
  TORCH_CHECK(!value || holds(*value), field, " must be ", rule, ", got ", *value);
}

}  // namespace

void GenerationConfig::validate() const {
  const auto positive = [](auto v) { return v > 0; };
  const auto not_negative = [](auto v) { return v >= 0; };
  const auto unit = [](double v) { return v >= 0 && v <= 1; };
  check("max_length", max_length, "above 0", positive);
  check("max_new_tokens", max_new_tokens, "above 0", positive);
  check("min_length", min_length, "0 or above", not_negative);
  check("min_new_tokens", min_new_tokens, "0 or above", not_negative);
  check("max_time", max_time, "above 0", positive);
  check("num_beams", num_beams, "1 or above", positive);
  check("num_return_sequences", num_return_sequences, "1 or above", positive);
  check("top_k", top_k, "0 or above", not_negative);
  check("top_p", top_p, "0 or above", not_negative);
  check("min_p", min_p, "in [0, 1]", unit);
  check("top_h", top_h, "in (0, 1]", [](double v) { return v > 0 && v <= 1; });
  check("typical_p", typical_p, "above 0", positive);
  check("epsilon_cutoff", epsilon_cutoff, "in [0, 1)", [](double v) { return v >= 0 && v < 1; });
  check("eta_cutoff", eta_cutoff, "in [0, 1)", [](double v) { return v >= 0 && v < 1; });
  check("repetition_penalty", repetition_penalty, "above 0", positive);
  check("no_repeat_ngram_size", no_repeat_ngram_size, "0 or above", not_negative);
  const bool samples = do_sample.value_or(false);
  TORCH_CHECK(!temperature || !samples || *temperature > 0, "temperature must be above 0 when sampling, got ",
              *temperature);
  TORCH_CHECK(!max_length || min_length.value_or(0) <= *max_length, "min_length must not be above max_length, got ",
              min_length.value_or(0), " and ", *max_length);
  const auto returned = num_return_sequences.value_or(1), beams = num_beams.value_or(1);
  TORCH_CHECK(returned == 1 || samples || returned <= beams,
              "num_return_sequences must not be above num_beams without sampling, got ", returned, " and ", beams);
  TORCH_CHECK(beams == 1 || returned <= beams, "num_return_sequences must not be above num_beams, got ", returned,
              " and ", beams);
  TORCH_CHECK(!cache_implementation || *cache_implementation == "dynamic" || *cache_implementation == "static",
              "cache_implementation must be \"dynamic\" or \"static\", got \"", cache_implementation.value_or(""),
              "\"");
}

GenerationConfig GenerationConfig::with_defaults(const GenerationConfig& defaults) const {
  GenerationConfig merged = defaults;
  const auto take = [](auto& field, const auto& said) {
    if (said) {
      field = said;
    }
  };
  const auto take_list = [](auto& field, const auto& said) {
    if (!said.empty()) {
      field = said;
    }
  };
  std::map<std::string_view, std::any> said_fields;
  visit_plain_fields(*this, [&](const char* key, const auto& field) { said_fields[key] = field; });
  visit_plain_fields(merged, [&](const char* key, auto& field) {
    take(field, std::any_cast<std::decay_t<decltype(field)>>(said_fields.at(key)));
  });
  take(merged.early_stopping, early_stopping);
  take(merged.exponential_decay_length_penalty, exponential_decay_length_penalty);
  take_list(merged.stop_strings, stop_strings);
  take_list(merged.bad_words_ids, bad_words_ids);
  take_list(merged.sequence_bias, sequence_bias);
  take_list(merged.forced_eos_token_id, forced_eos_token_id);
  take_list(merged.suppress_tokens, suppress_tokens);
  take_list(merged.begin_suppress_tokens, begin_suppress_tokens);
  take_list(merged.eos_token_id, eos_token_id);
  return merged;
}

GenerationConfig GenerationConfig::from_json(std::string_view text, const std::string& source) {
  return read_text(text, source, /*keep_unknown=*/true);
}

GenerationConfig GenerationConfig::from_pretrained(const std::string& folder) {
  const auto path = (std::filesystem::path(folder) / "generation_config.json").string();
  const auto read = [](const std::string& file, bool keep_unknown) {
    return read_text(read_regular_file(file, JsonLimits{}.max_bytes + 1), file, keep_unknown);
  };
  return std::filesystem::exists(path) ? read(path, true) : read(config_path(folder), false);
}

GenerationConfig GenerationConfig::from_model_config(const PretrainedConfig& config) {
  GenerationConfig generation;
  generation.pad_token_id = config.pad_token_id;
  generation.bos_token_id = config.bos_token_id;
  generation.eos_token_id = config.eos_token_id;
  return generation;
}

std::string GenerationConfig::to_json() const {
  ConfigWriter writer;
  visit_plain_fields(*this, [&](const char* key, const auto& field) { writer.write_if_set(key, field); });
  if (early_stopping) {
    early_stopping == EarlyStopping::kNever ? writer.write("early_stopping", "never")
                                            : writer.write("early_stopping", early_stopping == EarlyStopping::kYes);
  }
  const auto unless_empty = [&](const char* key, const auto& list) {
    if (!list.empty()) {
      writer.write(key, list);
    }
  };
  unless_empty("bad_words_ids", bad_words_ids);
  unless_empty("sequence_bias", sequence_bias);
  unless_empty("stop_strings", stop_strings);
  unless_empty("suppress_tokens", suppress_tokens);
  unless_empty("begin_suppress_tokens", begin_suppress_tokens);
  writer.write_if_set("exponential_decay_length_penalty", exponential_decay_length_penalty);
  if (!forced_eos_token_id.empty()) {
    writer.write_one_or_many("forced_eos_token_id", forced_eos_token_id);
  }
  if (!eos_token_id.empty()) {
    writer.write_one_or_many("eos_token_id", eos_token_id);
  }
  for (const auto& [key, text] : unknown_keys) {
    writer.write_raw(key, text);
  }
  return writer.text();
}

void GenerationConfig::save_pretrained(const std::string& folder) const {
  SaveTransaction save(folder);
  save.write("generation_config.json", to_json());
  save.commit();
}

}  // namespace transformers
