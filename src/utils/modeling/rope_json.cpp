#include "utils/modeling/internal/rope_json.h"

#include <c10/util/Exception.h>

namespace transformers {
namespace {

bool has_original_length(RopeType type) {
  return type == RopeType::kLlama3 || type == RopeType::kYarn || type == RopeType::kLongrope;
}

/// Reads the keys inside the object; unknown keys are neither kept nor used.
void read_object(ConfigReader reader, RopeParameters& p) {
  // transformers could not build a model from a null type; an absent type means "default".
  for (const char* key : {"type", "rope_type"}) {
    if (reader.holds(key) && !reader.has(key)) {
      reader.fail(key, "the name of a rope type");
    }
    reader.read_named<RopeType>(key, p.rope_type, rope_type_from_name);
  }
  if (reader.holds("rope_theta")) {
    reader.read("rope_theta", p.rope_theta);
  }
  reader.read("factor", p.factor);
  reader.read("partial_rotary_factor", p.partial_rotary_factor);
  reader.read("original_max_position_embeddings", p.original_max_position_embeddings);
  reader.read("attention_factor", p.attention_factor);
  reader.read("beta_fast", p.beta_fast);
  reader.read("beta_slow", p.beta_slow);
  reader.read("mscale", p.mscale);
  reader.read("mscale_all_dim", p.mscale_all_dim);
  reader.read("truncate", p.truncate);
  reader.read("short_factor", p.short_factor);
  reader.read("long_factor", p.long_factor);
  reader.read("low_freq_factor", p.low_freq_factor);
  reader.read("high_freq_factor", p.high_freq_factor);
  p.unknown_keys = reader.rest();
}

/// The keys of the object besides type, theta and the rotated fraction.
void write_type_keys(ConfigWriter& object, const RopeParameters& p) {
  object.write_if_set("factor", p.factor);
  object.write_if_set("original_max_position_embeddings", p.original_max_position_embeddings);
  object.write_if_set("attention_factor", p.attention_factor);
  object.write_if_set("beta_fast", p.beta_fast);
  object.write_if_set("beta_slow", p.beta_slow);
  object.write_if_set("mscale", p.mscale);
  object.write_if_set("mscale_all_dim", p.mscale_all_dim);
  object.write_if_set("truncate", p.truncate);
  object.write_if_set("low_freq_factor", p.low_freq_factor);
  object.write_if_set("high_freq_factor", p.high_freq_factor);
  if (p.rope_type == RopeType::kLongrope) {
    object.write("short_factor", p.short_factor);
    object.write("long_factor", p.long_factor);
  }
  for (const auto& [name, text] : p.unknown_keys) {
    object.write_raw(name, text);
  }
}

/// transformers 4.37 accepts only "type" and "factor", and later versions still read that form. Types that were added
/// later are written as their files spell them.
void write_rope_scaling(ConfigWriter& writer, const RopeParameters& p) {
  TORCH_CHECK(p.rope_type != RopeType::kProportional,
              "rope_parameters: transformers 4.x has no rope_type \"proportional\"; write the form of 5.x");
  writer.write("rope_theta", p.rope_theta);
  writer.write_if_set("partial_rotary_factor", p.partial_rotary_factor);
  if (p.rope_type == RopeType::kLongrope) {
    writer.write_if_set("original_max_position_embeddings", p.original_max_position_embeddings);
  }
  ConfigWriter object;
  write_type_keys(object, p);
  if (p.rope_type == RopeType::kDefault && object.empty()) {
    writer.write("rope_scaling", nullptr);
    return;
  }
  const bool is_old = p.rope_type == RopeType::kLinear || p.rope_type == RopeType::kDynamic;
  object.write(is_old ? "type" : "rope_type", rope_type_name(p.rope_type));
  writer.write_raw("rope_scaling", object.text());
}

/// A value that is false in Python means that there is no `rope_scaling`.
bool counts_as_nothing(const nlohmann::ordered_json& value) {
  return value.is_string() ? value.get_ref<const std::string&>().empty()
                           : value.is_null() || value.empty() || value == false || value == 0;
}

}  // namespace

RopeParameters read_rope_parameters(ConfigReader& reader, int64_t max_position_embeddings) {
  RopeParameters p;
  // Keys at the top level are defaults for keys that the object does not have.
  const bool theta_is_null = reader.holds("rope_theta") && !reader.has("rope_theta");
  if (!theta_is_null) {
    reader.read("rope_theta", p.rope_theta);
  }
  reader.read("partial_rotary_factor", p.partial_rotary_factor);
  const auto* parameters = reader.take("rope_parameters");
  const auto* scaling = reader.take("rope_scaling");
  const char* key = scaling != nullptr && !counts_as_nothing(*scaling) ? "rope_scaling" : "rope_parameters";
  const auto* chosen = std::string_view(key) == "rope_scaling" ? scaling : parameters;
  const bool is_given = chosen != nullptr && !chosen->is_null();
  if (is_given) {
    read_object(ConfigReader(*chosen, reader.source() + ": " + key), p);
  }
  if (theta_is_null && !(is_given && chosen->contains("rope_theta"))) {
    reader.fail("rope_theta", "a number");
  }
  if (reader.has("original_max_position_embeddings") && has_original_length(p.rope_type)) {
    reader.read("original_max_position_embeddings", p.original_max_position_embeddings);
  } else if (has_original_length(p.rope_type) && !p.original_max_position_embeddings) {
    p.original_max_position_embeddings = max_position_embeddings;
  }
  return p;
}

void write_rope_parameters(ConfigWriter& writer, const RopeParameters& p) {
  if (writer.for_transformers_4()) {
    return write_rope_scaling(writer, p);
  }
  ConfigWriter object;
  object.write("rope_type", rope_type_name(p.rope_type));
  object.write("rope_theta", p.rope_theta);
  object.write_if_set("partial_rotary_factor", p.partial_rotary_factor);
  write_type_keys(object, p);
  writer.write_raw("rope_parameters", object.text());
}

}  // namespace transformers
