#include <c10/util/Exception.h>
#include <transformers/utils/model_pruning/pruning_plan.h>

#include "utils/files/internal/regular_file.h"
#include "utils/files/internal/replace_file.h"
#include "utils/json/config_reader.h"
#include "utils/json/config_writer.h"
#include "utils/json/strict_json.h"

namespace transformers {
namespace {

using Json = nlohmann::ordered_json;

constexpr JsonLimits kLimits{.max_bytes = size_t{256} << 20, .max_depth = 8};

void read_numbers(ConfigReader& reader, const std::string& key, std::vector<int64_t>& numbers) {
  if (const auto* value = reader.take(key); value != nullptr && !value->is_array()) {
    reader.fail(key, "a list of integers");
  }
  reader.read_one_or_many(key, numbers);
}

void refuse_unknown_keys(const ConfigReader& reader) {
  const auto rest = reader.rest();
  TORCH_CHECK(rest.empty(), reader.source(), ": unknown key \"", printable(rest.begin()->first), "\"");
}

void read_by_layer(ConfigReader& reader, const std::string& key, HeadsByLayer& by_layer) {
  const auto* object = reader.take(key);
  if (object == nullptr) {
    return;
  }
  if (!object->is_object()) {
    reader.fail(key, "an object of lists by layer");
  }
  ConfigReader layers(*object, reader.source() + ": " + key);
  for (const auto& [layer, list] : object->items()) {
    const bool is_number =
        !layer.empty() && layer.size() < 10 && layer.find_first_not_of("0123456789") == std::string::npos;
    TORCH_CHECK(is_number, layers.source(), ": expected the number of a layer as key, found \"", printable(layer),
                "\"");
    read_numbers(layers, layer, by_layer[std::stoll(layer)]);
  }
}

void read_model(ConfigReader& reader, PlannedModel& model) {
  const auto* object = reader.take("model");
  if (object == nullptr) {
    reader.fail("model", "an object with the sizes the plan is for");
  }
  ConfigReader sizes(*object, reader.source() + ": model");
  sizes.read("model_type", model.model_type);
  sizes.read("vocab_size", model.vocab_size);
  sizes.read("hidden_size", model.hidden_size);
  read_numbers(sizes, "heads", model.heads);
  read_numbers(sizes, "key_value_heads", model.key_value_heads);
  read_numbers(sizes, "channels", model.channels);
  refuse_unknown_keys(sizes);
}

std::map<std::string, std::vector<int64_t>> with_text_keys(const HeadsByLayer& by_layer) {
  std::map<std::string, std::vector<int64_t>> named;
  for (const auto& [layer, numbers] : by_layer) {
    named[std::to_string(layer)] = numbers;
  }
  return named;
}

}  // namespace

std::string PruningPlan::to_json() const {
  const nlohmann::json sizes{{"model_type", model.model_type},           {"vocab_size", model.vocab_size},
                             {"hidden_size", model.hidden_size},         {"heads", model.heads},
                             {"key_value_heads", model.key_value_heads}, {"channels", model.channels}};
  ConfigWriter writer;
  writer.write("model", sizes);
  writer.write("heads", with_text_keys(heads));
  writer.write("channels", with_text_keys(channels));
  writer.write("layers", layers);
  writer.write("hidden_units", hidden_units);
  writer.write("vocabulary", vocabulary);
  return writer.text();
}

PruningPlan PruningPlan::from_json(std::string_view text, const std::string& source) {
  const auto json = parse_strict_json(text, source, kLimits);
  ConfigReader reader(json, source);
  PruningPlan plan;
  read_model(reader, plan.model);
  read_by_layer(reader, "heads", plan.heads);
  read_by_layer(reader, "channels", plan.channels);
  read_numbers(reader, "layers", plan.layers);
  read_numbers(reader, "hidden_units", plan.hidden_units);
  read_numbers(reader, "vocabulary", plan.vocabulary);
  refuse_unknown_keys(reader);
  return plan;
}

void PruningPlan::save(const std::string& path) const { replace_file(path, to_json()); }

PruningPlan PruningPlan::load(const std::string& path) {
  return from_json(read_regular_file(path, kLimits.max_bytes + 1), path);
}

}  // namespace transformers
