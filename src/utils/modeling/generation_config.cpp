// Mirrors generation/configuration_utils.py, transformers 5.23.0.
#include <c10/util/Exception.h>
#include <transformers/utils/files/save_transaction.h>
#include <transformers/utils/modeling/configuration_utils.h>
#include <transformers/utils/modeling/generation_config.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "utils/files/internal/folder_json.h"
#include "utils/json/config_reader.h"
#include "utils/json/config_writer.h"
#include "utils/json/strict_json.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

// One list of the plain fields serves reading, writing and merging. visit: key and pointer to member.
template <typename Visit>
void visit_plain_fields(const Visit& visit) {
  visit("max_length", &GenerationConfig::max_length);
  visit("max_new_tokens", &GenerationConfig::max_new_tokens);
  visit("min_length", &GenerationConfig::min_length);
  visit("min_new_tokens", &GenerationConfig::min_new_tokens);
  visit("max_time", &GenerationConfig::max_time);
  visit("do_sample", &GenerationConfig::do_sample);
  visit("num_beams", &GenerationConfig::num_beams);
  visit("length_penalty", &GenerationConfig::length_penalty);
  visit("num_return_sequences", &GenerationConfig::num_return_sequences);
  visit("use_cache", &GenerationConfig::use_cache);
  visit("cache_implementation", &GenerationConfig::cache_implementation);
  visit("guidance_scale", &GenerationConfig::guidance_scale);
  visit("temperature", &GenerationConfig::temperature);
  visit("top_k", &GenerationConfig::top_k);
  visit("top_p", &GenerationConfig::top_p);
  visit("min_p", &GenerationConfig::min_p);
  visit("top_h", &GenerationConfig::top_h);
  visit("typical_p", &GenerationConfig::typical_p);
  visit("epsilon_cutoff", &GenerationConfig::epsilon_cutoff);
  visit("eta_cutoff", &GenerationConfig::eta_cutoff);
  visit("repetition_penalty", &GenerationConfig::repetition_penalty);
  visit("no_repeat_ngram_size", &GenerationConfig::no_repeat_ngram_size);
  visit("renormalize_logits", &GenerationConfig::renormalize_logits);
  visit("forced_bos_token_id", &GenerationConfig::forced_bos_token_id);
  visit("remove_invalid_values", &GenerationConfig::remove_invalid_values);
  visit("output_scores", &GenerationConfig::output_scores);
  visit("output_logits", &GenerationConfig::output_logits);
  visit("pad_token_id", &GenerationConfig::pad_token_id);
  visit("bos_token_id", &GenerationConfig::bos_token_id);
}

// The same for lists, of which an empty one counts as unset.
template <typename Visit>
void visit_lists(const Visit& visit) {
  visit("stop_strings", &GenerationConfig::stop_strings);
  visit("bad_words_ids", &GenerationConfig::bad_words_ids);
  visit("sequence_bias", &GenerationConfig::sequence_bias);
  visit("suppress_tokens", &GenerationConfig::suppress_tokens);
  visit("begin_suppress_tokens", &GenerationConfig::begin_suppress_tokens);
}

using Json = nlohmann::ordered_json;

bool is_id(const Json& value) { return value.is_number_integer() && value >= 0 && value <= int64_t{1} << 31; }

std::vector<int64_t> id_list(const ConfigReader& reader, const std::string& key, const Json& value) {
  if (!value.is_array() || value.empty() || !std::ranges::all_of(value, is_id)) {
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

void read_watermarking(ConfigReader& reader, GenerationConfig& c) {
  const char* key = "watermarking_config";
  const auto* value = reader.take(key);
  if (value == nullptr || value->is_null()) {
    return;
  }
  ConfigReader fields(*value, reader.source() + ": " + key);
  WatermarkingConfig watermark;
  fields.read("greenlist_ratio", watermark.greenlist_ratio);
  fields.read("bias", watermark.bias);
  fields.read("hashing_key", watermark.hashing_key);
  fields.read("context_width", watermark.context_width);
  std::string scheme = "lefthash";
  fields.read("seeding_scheme", scheme);
  watermark.self_hash = scheme == "selfhash";
  if (!watermark.self_hash && scheme != "lefthash") {
    fields.fail("seeding_scheme", "\"lefthash\" or \"selfhash\"");
  }
  if (const auto unknown = fields.rest(); !unknown.empty()) {
    fields.fail(unknown.begin()->first, "absent: no such field is known");
  }
  c.watermarking_config = watermark;
}

void write_watermarking(ConfigWriter& writer, const WatermarkingConfig& watermark) {
  writer.write("watermarking_config", nlohmann::json{{"greenlist_ratio", watermark.greenlist_ratio},
                                                     {"bias", watermark.bias},
                                                     {"hashing_key", watermark.hashing_key},
                                                     {"seeding_scheme", watermark.self_hash ? "selfhash" : "lefthash"},
                                                     {"context_width", watermark.context_width}});
}

/// No end token at all is another thing than nothing said: −1 stands for it.
void read_eos(ConfigReader& reader, std::vector<int64_t>& field) {
  const char* key = "eos_token_id";
  reader.read_one_or_many(key, field);
  const auto* value = reader.take(key);
  if (value != nullptr && value->is_array() && value->empty()) {
    field = {-1};
  }
}

void read_fields(ConfigReader& reader, GenerationConfig& c) {
  visit_plain_fields([&](const char* key, auto member) { reader.read(key, c.*member); });
  read_early_stopping(reader, c.early_stopping);
  read_lists(reader, c);
  read_decay(reader, c);
  read_watermarking(reader, c);
  read_eos(reader, c.eos_token_id);
  reader.read_one_or_many("forced_eos_token_id", c.forced_eos_token_id);
  reader.read_one_or_many("suppress_tokens", c.suppress_tokens);
  reader.read_one_or_many("begin_suppress_tokens", c.begin_suppress_tokens);
  if (c.pad_token_id == -1) {
    c.pad_token_id.reset();
  }
}

/// Keys that choose or change a way of generating which is not there.
constexpr std::array kForeignKeys{"penalty_alpha",
                                  "num_beam_groups",
                                  "dola_layers",
                                  "constraints",
                                  "force_words_ids",
                                  "token_healing",
                                  "encoder_repetition_penalty",
                                  "encoder_no_repeat_ngram_size"};

GenerationConfig read_object(const nlohmann::ordered_json& json, const std::string& source, bool keep_unknown) {
  ConfigReader reader(json, source);
  GenerationConfig config;
  read_fields(reader, config);
  for (const char* key : {"_from_model_config", "transformers_version"}) {
    reader.ignore(key);
  }
  config.unknown_keys = reader.rest();
  if (!keep_unknown) {
    std::erase_if(config.unknown_keys,
                  [](const auto& entry) { return std::ranges::find(kForeignKeys, entry.first) == kForeignKeys.end(); });
  }
  return config;
}

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
  visit_plain_fields(take);
  take("early_stopping", &GenerationConfig::early_stopping);
  take("exponential_decay_length_penalty", &GenerationConfig::exponential_decay_length_penalty);
  take("watermarking_config", &GenerationConfig::watermarking_config);
  visit_lists(take_list);
  take_list("forced_eos_token_id", &GenerationConfig::forced_eos_token_id);
  take_list("eos_token_id", &GenerationConfig::eos_token_id);
  return merged;
}

GenerationConfig GenerationConfig::from_json(std::string_view text, const std::string& source) {
  auto config = read_object(parse_strict_json(text, source), source, /*keep_unknown=*/true);
  try {
    config.validate();
  } catch (const c10::Error& error) {
    TORCH_CHECK(false, source, ": ", error.what_without_backtrace());
  }
  return config;
}

GenerationConfig GenerationConfig::from_pretrained(const ModelFolder& folder) {
  const auto read = [&](const std::string& name, bool keep_unknown) {
    return read_object(folder_json(folder, name), folder.file(name), keep_unknown);
  };
  return folder.contains("generation_config.json") ? read("generation_config.json", true) : read("config.json", false);
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
  visit_plain_fields([&](const char* key, auto member) { writer.write_if_set(key, this->*member); });
  if (early_stopping) {
    early_stopping == EarlyStopping::kNever ? writer.write("early_stopping", "never")
                                            : writer.write("early_stopping", early_stopping == EarlyStopping::kYes);
  }
  writer.write_if_set("exponential_decay_length_penalty", exponential_decay_length_penalty);
  if (watermarking_config) {
    write_watermarking(writer, *watermarking_config);
  }
  visit_lists([&](const char* key, auto member) {
    if (!(this->*member).empty()) {
      writer.write(key, this->*member);
    }
  });
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
