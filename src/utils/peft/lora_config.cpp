// Mirrors tuners/lora/config.py and config.py, peft 0.21.2. Deviations: a key of the wrong type, a value that is not
// finite and a rank or dropout outside its range are errors at load; fan_in_fan_out, which is for layers that store
// their weight transposed, is refused instead of ignored.
#include <c10/util/Exception.h>
#include <transformers/utils/peft/lora_config.h>

#include <array>
#include <cmath>
#include <filesystem>
#include <set>
#include <utility>

#include "utils/files/internal/regular_file.h"
#include "utils/json/config_reader.h"
#include "utils/json/config_writer.h"
#include "utils/json/strict_json.h"
#include "utils/text/named_values.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

using Json = nlohmann::ordered_json;

// How the file holds a field, where the type does not determine it.
/// A list of strings, for which a single string may stand.
struct OneOrMany {};
/// A number that is written without a point when it is whole, as peft writes alphas, which mostly are integers.
struct WholeNumber {};

// One list of the fields serves reading, in this order, and writing. visit: key, pointer to member and form.
template <typename Visit>
void visit_config_fields(const Visit& visit) {
  visit("task_type", &LoraConfig::task_type);
  visit("base_model_name_or_path", &LoraConfig::base_model_name_or_path);
  visit("revision", &LoraConfig::revision);
  visit("inference_mode", &LoraConfig::inference_mode);
  visit("r", &LoraConfig::r);
  visit("lora_alpha", &LoraConfig::lora_alpha, WholeNumber());
  visit("use_rslora", &LoraConfig::use_rslora);
  visit("lora_dropout", &LoraConfig::lora_dropout);
  visit("target_modules", &LoraConfig::target_modules);
  visit("exclude_modules", &LoraConfig::exclude_modules);
  visit("modules_to_save", &LoraConfig::modules_to_save);
  visit("bias", &LoraConfig::bias);
  visit("lora_bias", &LoraConfig::lora_bias);
  visit("init_lora_weights", &LoraConfig::init_lora_weights);
  visit("layers_to_transform", &LoraConfig::layers_to_transform);
  visit("layers_pattern", &LoraConfig::layers_pattern, OneOrMany());
  visit("rank_pattern", &LoraConfig::rank_pattern);
  visit("alpha_pattern", &LoraConfig::alpha_pattern);
  visit("use_dora", &LoraConfig::use_dora);
  visit("ensure_weight_tying", &LoraConfig::ensure_weight_tying);
}

constexpr std::array<NamedValue<LoraBias>, 3> kBiases{
    {{"none", LoraBias::kNone}, {"all", LoraBias::kAll}, {"lora_only", LoraBias::kLoraOnly}}};

/// Options for computations that are not implemented; null, false, [] and {} all mean off.
constexpr std::array kForeignSwitches{"alora_invocation_tokens",
                                      "arrow_config",
                                      "fan_in_fan_out",
                                      "kasa_config",
                                      "layer_replication",
                                      "loftq_config",
                                      "megatron_config",
                                      "monteclora_config",
                                      "target_parameters",
                                      "trainable_token_indices",
                                      "use_bdlora",
                                      "use_qalora",
                                      "velora_config"};

bool is_off(const Json& value) { return value.is_null() || value == false || (value.is_structured() && value.empty()); }

void refuse_foreign_switches(const ConfigReader& reader, const Json& object) {
  for (const auto* key : kForeignSwitches) {
    if (const auto found = object.find(key); found != object.end() && !is_off(*found)) {
      reader.fail(key, "off: it changes the computation in a way this library does not have");
    }
  }
}

template <typename Value>
void read_field(ConfigReader& reader, const std::string& key, Value& value) {
  reader.read(key, value);
}

void read_field(ConfigReader& reader, const std::string& key, double& value, WholeNumber /*unused*/) {
  reader.read(key, value);
}

void read_field(ConfigReader& reader, const std::string& key, std::vector<int64_t>& numbers) {
  reader.read_one_or_many(key, numbers);
}

void read_field(ConfigReader& reader, const std::string& key, std::vector<std::string>& strings, OneOrMany /*unused*/) {
  reader.read_one_or_many(key, strings);
}

void read_field(ConfigReader& reader, const std::string& key, ModuleSelection& selection) {
  if (const auto* value = reader.take(key); value != nullptr && value->is_string()) {
    selection.regex = value->get<std::string>();
  } else {
    reader.read(key, selection.names);
  }
}

template <typename Value>
void read_field(ConfigReader& reader, const std::string& key, std::vector<std::pair<std::string, Value>>& pattern) {
  const auto* value = reader.take(key);
  if (value == nullptr || value->is_null()) {
    return;
  }
  ConfigReader entries(*value, reader.source() + ": " + key);
  for (const auto& [name, unused] : value->items()) {
    Value number{};
    if (!entries.has(name)) {
      entries.fail(name, "a number");
    }
    entries.read(name, number);
    pattern.emplace_back(name, number);
  }
}

void read_field(ConfigReader& reader, const std::string& key, LoraBias& bias) {
  reader.read_named<LoraBias>(key, bias, [&](std::string_view name) { return value_of_name(kBiases, key, name); });
}

void read_field(ConfigReader& reader, const std::string& key, LoraInit& init) {
  const auto* value = reader.take(key);
  if (value == nullptr) {
    return;
  }
  const std::map<Json, LoraInit> known{{true, LoraInit::kKaiming},
                                       {false, LoraInit::kRandom},
                                       {"gaussian", LoraInit::kGaussian},
                                       {"eva", LoraInit::kEva},
                                       {"orthogonal", LoraInit::kOrthogonal}};
  const auto found = known.find(*value);
  if (found == known.end()) {
    reader.fail(key, "true, false, \"gaussian\", \"eva\" or \"orthogonal\" (others rewrite the base weights)");
  }
  init = found->second;
}

template <typename Value>
nlohmann::json field_json(const Value& value) {
  return value;
}

/// null where it is unset.
template <typename Value>
nlohmann::json field_json(const std::optional<Value>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json();
}

nlohmann::json field_json(LoraBias bias) { return name_of_value(kBiases, bias); }

nlohmann::json field_json(LoraInit init) {
  switch (init) {
    case LoraInit::kKaiming:
      return true;
    case LoraInit::kRandom:
      return false;
    case LoraInit::kGaussian:
      return "gaussian";
    case LoraInit::kEva:
      return "eva";
    case LoraInit::kOrthogonal:
      return "orthogonal";
  }
  TORCH_INTERNAL_ASSERT(false);
}

nlohmann::json field_json(double value, WholeNumber /*unused*/) {
  const bool whole = value == std::floor(value) && std::abs(value) < 1e15;
  return whole ? nlohmann::json(static_cast<int64_t>(value)) : nlohmann::json(value);
}

nlohmann::json field_json(const ModuleSelection& selection) {
  if (!selection.regex.empty()) {
    return selection.regex;
  }
  return selection.names.empty() ? nlohmann::json() : nlohmann::json(selection.names);
}

/// null where it is empty.
template <typename Value>
nlohmann::json field_json(const std::vector<Value>& values) {
  return values.empty() ? nlohmann::json() : nlohmann::json(values);
}

nlohmann::json field_json(const std::vector<std::string>& values, OneOrMany /*unused*/) { return field_json(values); }

/// Holds the place among the sorted keys; the entries, which keep their order, are added afterwards.
template <typename Value>
nlohmann::json field_json(const std::vector<std::pair<std::string, Value>>& /*pattern*/) {
  return nlohmann::json::object();
}

void check_alpha(const std::string& field, double value) {
  TORCH_CHECK(std::isfinite(value), field, " must be finite, got ", value);
}

/// A name that occurs twice could not be written.
template <typename Value>
void check_names(const char* field, const std::vector<std::pair<std::string, Value>>& pattern) {
  std::set<std::string> names;
  for (const auto& [name, unused] : pattern) {
    TORCH_CHECK(names.insert(name).second, field, " names \"", printable(name), "\" twice");
  }
}

void check_rank(const std::string& field, int64_t value) {
  TORCH_CHECK(value >= 1 && value < int64_t{1} << 31, field, " must lie in [1, 2^31), got ", value);
}

}  // namespace

void LoraConfig::validate() const {
  check_rank("r", r);
  check_alpha("lora_alpha", lora_alpha);
  for (const auto& [name, rank] : rank_pattern) {
    check_rank("rank_pattern \"" + printable(name) + "\"", rank);
  }
  for (const auto& [name, alpha] : alpha_pattern) {
    check_alpha("alpha_pattern \"" + printable(name) + "\"", alpha);
  }
  check_names("rank_pattern", rank_pattern);
  check_names("alpha_pattern", alpha_pattern);
  TORCH_CHECK(lora_dropout >= 0 && lora_dropout < 1, "lora_dropout must lie in [0, 1), got ", lora_dropout);
  for (const auto* selection : {&target_modules, &exclude_modules}) {
    TORCH_CHECK(selection->names.empty() || selection->regex.empty(),
                "modules are chosen by names or by a regular expression, not by both");
  }
  TORCH_CHECK(target_modules.regex.empty() || (layers_to_transform.empty() && layers_pattern.empty()),
              "layers_to_transform and layers_pattern need target_modules to be a list of names, got the regex \"",
              printable(target_modules.regex), "\"");
  TORCH_CHECK(layers_pattern.empty() || !layers_to_transform.empty(), "layers_pattern needs layers_to_transform");
  TORCH_CHECK(!lora_bias || !use_dora, "lora_bias cannot be combined with use_dora");
  TORCH_CHECK(!lora_bias || init_lora_weights == LoraInit::kKaiming || init_lora_weights == LoraInit::kRandom,
              "lora_bias needs init_lora_weights to be true or false");
}

std::string LoraConfig::to_json() const {
  ConfigWriter writer;
  for (const auto& [key, text] : unknown_keys) {
    writer.write_raw(key, text);
  }
  writer.write("peft_type", "LORA");
  visit_config_fields(
      [&](const char* key, auto member, auto... form) { writer.write(key, field_json(this->*member, form...)); });
  auto object = Json::parse(writer.text());
  for (const auto& [name, rank] : rank_pattern) {
    object["rank_pattern"][name] = rank;
  }
  for (const auto& [name, alpha] : alpha_pattern) {
    object["alpha_pattern"][name] = field_json(alpha, WholeNumber());
  }
  return object.dump(2) + "\n";
}

LoraConfig LoraConfig::from_json(std::string_view text, const std::string& source) {
  const auto object = parse_strict_json(text, source);
  ConfigReader reader(object, source);
  if (std::string type; reader.has("peft_type")) {
    reader.read("peft_type", type);
    if (type != "LORA") {
      reader.fail("peft_type", "\"LORA\"");
    }
  }
  reader.ignore("peft_type");
  refuse_foreign_switches(reader, object);
  LoraConfig c;
  visit_config_fields([&](const char* key, auto member, auto... form) { read_field(reader, key, c.*member, form...); });
  c.unknown_keys = reader.rest();
  try {
    c.validate();
  } catch (const c10::Error& error) {
    TORCH_CHECK(false, source, ": ", error.what_without_backtrace());
  }
  return c;
}

LoraConfig LoraConfig::from_pretrained(const std::string& folder) {
  const auto path = (std::filesystem::path(folder) / "adapter_config.json").string();
  return from_json(read_regular_file(path, JsonLimits{}.max_bytes + 1), path);
}

}  // namespace transformers
