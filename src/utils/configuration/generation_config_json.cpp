// Mirrors generation/configuration_utils.py, transformers 5.23.0: how the settings are read from JSON and written to
// it.
#include <c10/util/Exception.h>
#include <transformers/utils/configuration/generation_config.h>
#include <transformers/utils/files/save_transaction.h>

#include <algorithm>
#include <array>

#include "utils/configuration/generation_config_fields.h"
#include "utils/files/internal/folder_json.h"
#include "utils/json/config_reader.h"
#include "utils/json/config_writer.h"
#include "utils/json/strict_json.h"

namespace transformers {
namespace {

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
  reader.read_one_or_many("stop_strings", c.stop_strings);
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
  visit_generation_fields([&](const char* key, auto member) { reader.read(key, c.*member); });
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
                                  "assistant_early_exit",
                                  "assistant_ensemble_weight",
                                  "use_mtp",
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

}  // namespace

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

std::string GenerationConfig::to_json() const {
  ConfigWriter writer;
  visit_generation_fields([&](const char* key, auto member) { writer.write_if_set(key, this->*member); });
  if (early_stopping) {
    early_stopping == EarlyStopping::kNever ? writer.write("early_stopping", "never")
                                            : writer.write("early_stopping", early_stopping == EarlyStopping::kYes);
  }
  writer.write_if_set("exponential_decay_length_penalty", exponential_decay_length_penalty);
  if (watermarking_config) {
    write_watermarking(writer, *watermarking_config);
  }
  visit_generation_lists([&](const char* key, auto member) {
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
