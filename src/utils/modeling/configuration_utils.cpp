// Mirrors configuration_utils.py, transformers 5.23.0.
#include <c10/util/Exception.h>
#include <transformers/utils/files/save_transaction.h>
#include <transformers/utils/modeling/configuration_utils.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <utility>

#include "utils/files/internal/folder_json.h"
#include "utils/files/internal/regular_file.h"
#include "utils/json/config_reader.h"
#include "utils/json/config_writer.h"
#include "utils/json/strict_json.h"
#include "utils/text/named_values.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

constexpr int64_t kMostLabels = 1 << 16;  // names and rows of a head are made for all of them
// Of the transformers whose files these are.
constexpr std::string_view kFormatVersion = "5.23.0", kFormatVersion4 = "4.37.2";

constexpr std::array<NamedValue<c10::ScalarType>, 7> kDtypes{{{"float32", c10::kFloat},
                                                              {"bfloat16", c10::kBFloat16},
                                                              {"float16", c10::kHalf},
                                                              {"float64", c10::kDouble},
                                                              {"float", c10::kFloat},
                                                              {"half", c10::kHalf},
                                                              {"double", c10::kDouble}}};

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

/// transformers keeps whatever stands there; one name is as good as a list of one.
void read_architectures(ConfigReader& reader, std::vector<std::string>& architectures) {
  if (const auto* value = reader.take("architectures"); value != nullptr && value->is_string()) {
    architectures = {value->get<std::string>()};
  } else {
    reader.read("architectures", architectures);
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
    if (num_labels < 1 || num_labels > kMostLabels) {
      reader.fail("num_labels", "in [1, " + std::to_string(kMostLabels) + "]");
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

c10::ScalarType dtype_from_name(std::string_view name) {
  return value_of_name(kDtypes, "dtype", name.starts_with("torch.") ? name.substr(6) : name);
}

std::string dtype_name(c10::ScalarType dtype) {
  TORCH_CHECK(std::ranges::find(kDtypes, dtype, &NamedValue<c10::ScalarType>::second) != kDtypes.end(),
              "a model cannot be of dtype ", dtype);
  return name_of_value(kDtypes, dtype);
}

void PretrainedConfig::set_num_labels(int64_t num_labels) {
  TORCH_CHECK(num_labels >= 1 && num_labels <= kMostLabels, "num_labels must be in [1, ", kMostLabels, "], got ",
              num_labels);
  if (num_labels == this->num_labels()) {
    return;
  }
  id2label.clear();
  for (int64_t id = 0; id < num_labels; ++id) {
    id2label[id] = "LABEL_" + std::to_string(id);
  }
}

double PretrainedConfig::classification_dropout() const {
  return classifier_dropout ? *classifier_dropout : hidden_dropout.value_or(0.1);
}

void PretrainedConfig::validate() const {
  check_size("vocab_size", vocab_size);
  check_probability("initializer_range", initializer_range);
  check_probability("classifier_dropout", classification_dropout());
  TORCH_CHECK(pad_token_id.value_or(0) >= 0, "pad_token_id must not be negative, got ", pad_token_id.value_or(0));
  TORCH_CHECK(num_labels() > 1 || problem_type != ProblemType::kSingleLabelClassification,
              "problem_type single_label_classification needs at least 2 labels, got ", num_labels());
}

void PretrainedConfig::read_fields(ConfigReader& reader) {
  reader.read("vocab_size", vocab_size);
  reader.read("initializer_range", initializer_range);
  read_architectures(reader, architectures);
  refuse_quantization(reader);
  read_dtype(reader, dtype);
  reader.read("tie_word_embeddings", tie_word_embeddings);
  reader.read("use_cache", use_cache);
  reader.read("is_causal", is_causal);
  reader.read("output_attentions", output_attentions);
  read_output_hidden_states(reader, output_hidden_states);
  reader.read("pad_token_id", pad_token_id);
  if (pad_token_id == -1) {
    pad_token_id.reset();
  }
  reader.read("bos_token_id", bos_token_id);
  reader.read_one_or_many("eos_token_id", eos_token_id);
  read_labels(reader, *this);
  read_problem_type(reader, problem_type);
  reader.read("classifier_dropout", classifier_dropout);
  reader.read("hidden_dropout", hidden_dropout);
  read_pruned_heads(reader, pruned_heads);
  reader.read_one_or_many("intermediate_sizes", intermediate_sizes);
  for (const char* key : kGenerationKeys) {
    reader.ignore(key);
  }
  reader.ignore("transformers_version");
}

void PretrainedConfig::write_fields(ConfigWriter& writer) const {
  writer.write("model_type", model_type());
  writer.write("vocab_size", vocab_size);
  writer.write("initializer_range", initializer_range);
  writer.write("architectures", architectures);
  writer.write("transformers_version", writer.for_transformers_4() ? kFormatVersion4 : kFormatVersion);
  if (dtype) {
    writer.write(writer.for_transformers_4() ? "torch_dtype" : "dtype", dtype_name(*dtype));
  }
  writer.write("tie_word_embeddings", tie_word_embeddings);
  writer.write("use_cache", use_cache);
  writer.write("pad_token_id", pad_token_id);
  writer.write("bos_token_id", bos_token_id);
  writer.write_one_or_many("eos_token_id", eos_token_id);
  const auto unless_default = [&](const char* key, bool value, bool by_default) {
    writer.write_if_set(key, value == by_default ? std::nullopt : std::make_optional(value));
  };
  unless_default("is_causal", is_causal, true);
  unless_default("output_attentions", output_attentions, false);
  write_output_hidden_states(writer, output_hidden_states);
  write_labels(writer, *this);
  for (const auto& [name, problem] : kProblems) {
    if (problem_type == problem) {
      writer.write("problem_type", name);
    }
  }
  writer.write_if_set("classifier_dropout", classifier_dropout);
  writer.write_if_set("hidden_dropout", hidden_dropout);
  write_pruned_heads(writer, pruned_heads);
  if (!intermediate_sizes.empty()) {
    writer.write("intermediate_sizes", intermediate_sizes);
  }
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
  check_folder(folder.path());
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

void check_size(const char* field, int64_t value) {
  TORCH_CHECK(value >= 1 && value <= std::numeric_limits<int32_t>::max(), field, " must be in [1, 2^31), got ", value);
}

void check_parameter_bytes(const std::vector<std::array<int64_t, 3>>& shapes) {
  double bytes = 0;
  for (const auto& [layers, rows, columns] : shapes) {
    bytes += 4.0 * static_cast<double>(layers) * static_cast<double>(rows) * static_cast<double>(columns);
  }
  TORCH_CHECK(bytes < 9.2e18, "the sizes ask for weights of ", bytes, " bytes, 2^63 is the limit");
}

void check_probability(const char* field, double value) {
  TORCH_CHECK(value >= 0 && value <= 1, field, " must be in [0, 1], got ", value);
}

}  // namespace transformers
