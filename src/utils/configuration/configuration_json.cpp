// Mirrors configuration_utils.py, transformers 5.23.0: how the fields that all families share are read from config.json
// and written to it.
#include <c10/util/Exception.h>
#include <transformers/utils/configuration/configuration_utils.h>
#include <transformers/utils/files/save_transaction.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "utils/files/internal/folder_json.h"
#include "utils/json/config_reader.h"
#include "utils/json/config_writer.h"
#include "utils/json/strict_json.h"
#include "utils/text/named_values.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

// Of the transformers whose files these are.
constexpr std::string_view kFormatVersion = "5.23.0", kFormatVersion4 = "4.37.2";

constexpr std::array<NamedValue<ProblemType>, 3> kProblems{
    {{"regression", ProblemType::kRegression},
     {"single_label_classification", ProblemType::kSingleLabelClassification},
     {"multi_label_classification", ProblemType::kMultiLabelClassification}}};

// Old configs carry generation settings; they belong to generation_config.json and are not written back here.
constexpr std::array kGenerationKeys{"max_length",
                                     "max_new_tokens",
                                     "min_length",
                                     "min_new_tokens",
                                     "do_sample",
                                     "early_stopping",
                                     "num_beams",
                                     "num_beam_groups",
                                     "diversity_penalty",
                                     "temperature",
                                     "top_k",
                                     "top_p",
                                     "min_p",
                                     "typical_p",
                                     "repetition_penalty",
                                     "length_penalty",
                                     "no_repeat_ngram_size",
                                     "encoder_no_repeat_ngram_size",
                                     "bad_words_ids",
                                     "num_return_sequences",
                                     "output_scores",
                                     "return_dict_in_generate",
                                     "forced_bos_token_id",
                                     "forced_eos_token_id",
                                     "remove_invalid_values",
                                     "exponential_decay_length_penalty",
                                     "suppress_tokens",
                                     "begin_suppress_tokens"};

// One list of the plain fields serves reading and writing. visit: key and pointer to member.
template <typename Visit>
void visit_plain_fields(const Visit& visit) {
  visit("vocab_size", &PretrainedConfig::vocab_size);
  visit("initializer_range", &PretrainedConfig::initializer_range);
  visit("tie_word_embeddings", &PretrainedConfig::tie_word_embeddings);
  visit("use_cache", &PretrainedConfig::use_cache);
  visit("pad_token_id", &PretrainedConfig::pad_token_id);
  visit("bos_token_id", &PretrainedConfig::bos_token_id);
}

// The same for switches that are written only where they differ from the default. visit: also the default.
template <typename Visit>
void visit_switches(const Visit& visit) {
  visit("is_causal", &PretrainedConfig::is_causal, true);
  visit("output_attentions", &PretrainedConfig::output_attentions, false);
}

// The same for fields that are written only where they are set.
template <typename Visit>
void visit_optional_fields(const Visit& visit) {
  visit("classifier_dropout", &PretrainedConfig::classifier_dropout);
  visit("hidden_dropout", &PretrainedConfig::hidden_dropout);
}

ProblemType problem_type_from_name(std::string_view name) { return value_of_name(kProblems, "problem_type", name); }

void read_dtype(ConfigReader& reader, std::optional<c10::ScalarType>& dtype) {
  for (const char* key : {"torch_dtype", "dtype"}) {
    if (c10::ScalarType value{}; reader.has(key)) {
      reader.read_named<c10::ScalarType>(key, value, dtype_from_name);
      dtype = value;
    }
    reader.ignore(key);
  }
}

/// Weights under such a key are codes, not values: whoever reads them as values computes something else.
void refuse_quantization(ConfigReader& reader) {
  for (const char* key : {"quantization_config", "compression_config", "quantization"}) {
    const auto* value = reader.take(key);
    if (value == nullptr || value->is_null()) {
      continue;
    }
    const auto method = value->is_object() ? value->value("quant_method", nlohmann::ordered_json()) : *value;
    TORCH_CHECK(false, reader.source(), ": key \"", key, "\": weights quantized by the method ",
                method.is_string() ? "\"" + printable(method.get<std::string>()) + "\"" : "that it does not name",
                " are not read");
  }
}

void read_output_hidden_states(ConfigReader& reader, OutputHiddenStates& states) {
  const char* key = "output_hidden_states";
  const auto* value = reader.take(key);
  if (value == nullptr || value->is_null()) {
    return;
  }
  if (value->is_boolean()) {
    states = value->get<bool>();
    return;
  }
  std::vector<int64_t> numbers;
  reader.read_one_or_many(key, numbers);
  states = value->is_array() ? OutputHiddenStates(std::move(numbers)) : OutputHiddenStates(numbers.front());
}

void write_output_hidden_states(ConfigWriter& writer, const OutputHiddenStates& states) {
  if (states.is_one_number()) {
    writer.write("output_hidden_states", states.numbers().front());
  } else if (!states.numbers().empty()) {
    writer.write("output_hidden_states", states.numbers());
  } else if (states) {
    writer.write("output_hidden_states", true);
  }
}

void read_labels(ConfigReader& reader, PretrainedConfig& config) {
  if (int64_t num_labels = 2; reader.has("num_labels")) {
    reader.read("num_labels", num_labels);
    if (num_labels < 1 || num_labels > PretrainedConfig::kMostLabels) {
      reader.fail("num_labels", "in [1, " + std::to_string(PretrainedConfig::kMostLabels) + "]");
    }
    config.set_num_labels(num_labels);
  }
  const auto* labels = reader.take("id2label");
  reader.ignore("label2id");
  if (labels == nullptr || labels->is_null()) {
    return;
  }
  if (!labels->is_object() || labels->empty()) {
    reader.fail("id2label", "an object of names by id");
  }
  std::map<int64_t, std::string> id2label;
  for (const auto& [id, name] : labels->items()) {
    const bool is_number = !id.empty() && id.size() < 10 && id.find_first_not_of("0123456789") == std::string::npos;
    if (!is_number || !name.is_string()) {
      reader.fail("id2label", "an object of names by id");
    }
    id2label[std::stoll(id)] = name.get<std::string>();
  }
  if (reader.has("num_labels") && static_cast<int64_t>(id2label.size()) != config.num_labels()) {
    TORCH_WARN(reader.source(), ": num_labels is ", config.num_labels(), " but id2label has ", id2label.size(),
               " names; id2label is used");
  }
  config.id2label = std::move(id2label);
}

int64_t layer_number(const ConfigReader& reader, const std::string& text) {
  const bool is_number = !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == std::string::npos;
  if (!is_number) {
    reader.fail("pruned_heads", "an object of lists of heads by layer");
  }
  return std::stoll(text);
}

/// Old configs of transformers hold an empty one.
void read_pruned_heads(ConfigReader& reader, HeadsByLayer& pruned_heads) {
  const auto* by_layer = reader.take("pruned_heads");
  if (by_layer == nullptr || by_layer->is_null()) {
    return;
  }
  if (!by_layer->is_object()) {
    reader.fail("pruned_heads", "an object of lists of heads by layer");
  }
  ConfigReader layers(*by_layer, reader.source() + ": pruned_heads");
  for (const auto& [layer, list] : by_layer->items()) {
    std::vector<int64_t> heads;
    layers.read_one_or_many(layer, heads);
    std::ranges::sort(heads);
    if (!heads.empty()) {
      pruned_heads[layer_number(reader, layer)] = std::move(heads);
    }
  }
}

void write_pruned_heads(ConfigWriter& writer, const HeadsByLayer& pruned_heads) {
  std::map<std::string, std::vector<int64_t>> by_layer;
  for (const auto& [layer, heads] : pruned_heads) {
    by_layer[std::to_string(layer)] = heads;
  }
  if (!by_layer.empty()) {
    writer.write("pruned_heads", by_layer);
  }
}

void read_problem_type(ConfigReader& reader, std::optional<ProblemType>& problem_type) {
  if (ProblemType value{}; reader.has("problem_type")) {
    reader.read_named<ProblemType>("problem_type", value, problem_type_from_name);
    problem_type = value;
  }
  reader.ignore("problem_type");
}

/// Such an id is never generated or read, so nothing else goes wrong; HF says nothing or warns.
void warn_of_ids_beyond_vocabulary(const PretrainedConfig& config, const std::string& source) {
  const auto warn = [&](const char* key, int64_t id) {
    if (id >= config.vocab_size) {
      TORCH_WARN(source, ": ", key, " is ", id, ", beyond the vocabulary of ", config.vocab_size);
    }
  };
  warn("pad_token_id", config.pad_token_id.value_or(-1));
  warn("bos_token_id", config.bos_token_id.value_or(-1));
  for (const auto id : config.eos_token_id) {
    warn("eos_token_id", id);
  }
}

void write_labels(ConfigWriter& writer, const PretrainedConfig& config) {
  const std::map<int64_t, std::string> two{{0, "LABEL_0"}, {1, "LABEL_1"}};
  if (config.id2label == two) {
    return;
  }
  std::map<std::string, std::string> id2label;
  std::map<std::string, int64_t> label2id;
  for (const auto& [id, name] : config.id2label) {
    id2label[std::to_string(id)] = name;
    label2id[name] = id;
  }
  writer.write("id2label", id2label);
  writer.write("label2id", label2id);
}

}  // namespace

void PretrainedConfig::read_fields(ConfigReader& reader) {
  const auto read = [&](const char* key, auto member) { reader.read(key, this->*member); };
  visit_plain_fields(read);
  visit_optional_fields(read);
  visit_switches([&](const char* key, auto member, bool) { reader.read(key, this->*member); });
  if (pad_token_id == -1) {
    pad_token_id.reset();
  }
  reader.read_one_or_many("eos_token_id", eos_token_id);
  reader.read_one_or_many("architectures", architectures);
  reader.read_one_or_many("intermediate_sizes", intermediate_sizes);
  refuse_quantization(reader);
  read_dtype(reader, dtype);
  read_output_hidden_states(reader, output_hidden_states);
  read_labels(reader, *this);
  read_problem_type(reader, problem_type);
  read_pruned_heads(reader, pruned_heads);
  for (const char* key : kGenerationKeys) {
    reader.ignore(key);
  }
  reader.ignore("transformers_version");
}

void PretrainedConfig::write_fields(ConfigWriter& writer) const {
  writer.write("model_type", model_type());
  writer.write("transformers_version", writer.for_transformers_4() ? kFormatVersion4 : kFormatVersion);
  visit_plain_fields([&](const char* key, auto member) { writer.write(key, this->*member); });
  visit_optional_fields([&](const char* key, auto member) { writer.write_if_set(key, this->*member); });
  visit_switches([&](const char* key, auto member, bool by_default) {
    writer.write_if_set(key, this->*member == by_default ? std::nullopt : std::make_optional(this->*member));
  });
  writer.write_one_or_many("eos_token_id", eos_token_id);
  writer.write("architectures", architectures);
  if (!intermediate_sizes.empty()) {
    writer.write("intermediate_sizes", intermediate_sizes);
  }
  if (dtype) {
    writer.write(writer.for_transformers_4() ? "torch_dtype" : "dtype", dtype_name(*dtype));
  }
  write_output_hidden_states(writer, output_hidden_states);
  write_labels(writer, *this);
  if (problem_type) {
    writer.write("problem_type", name_of_value(kProblems, *problem_type));
  }
  write_pruned_heads(writer, pruned_heads);
}

std::string PretrainedConfig::to_json(ConfigFormat format) const {
  ConfigWriter writer(/*for_transformers_4=*/format == ConfigFormat::kTransformers4);
  write_fields(writer);
  for (const auto& [key, text] : unknown_keys) {
    if (!writer.contains(key)) {
      writer.write_raw(key, text);
    }
  }
  return writer.text();
}

void PretrainedConfig::read_json(std::string_view text, const std::string& source) {
  const auto json = parse_strict_json(text, source);
  ConfigReader reader(json, source);
  read(reader);
}

void PretrainedConfig::read_folder(const ModelFolder& folder) {
  ConfigReader reader(folder_json(folder, "config.json"), config_path(folder.path()));
  read(reader);
}

void PretrainedConfig::read(ConfigReader& reader) {
  const auto& source = reader.source();
  std::string found_type = model_type();
  reader.read("model_type", found_type);
  if (found_type != model_type()) {
    TORCH_WARN(source, ": model_type is \"", found_type, "\", it is read as \"", model_type(), "\"");
  }
  read_fields(reader);
  unknown_keys = reader.rest();
  try {
    validate();
  } catch (const c10::Error& error) {
    TORCH_CHECK(false, source, ": ", error.what_without_backtrace());
  }
  warn_of_ids_beyond_vocabulary(*this, source);
}

void PretrainedConfig::save_pretrained(const std::string& folder) const {
  SaveTransaction save(folder);
  save.write("config.json", to_json());
  save.commit();
}

std::string config_path(const std::string& folder) { return (std::filesystem::path(folder) / "config.json").string(); }

bool is_generation_key(std::string_view key) {
  return std::ranges::find(kGenerationKeys, key) != kGenerationKeys.end();
}

}  // namespace transformers
