// Mirrors models/gptj/configuration_gptj.py, transformers 5.23.0.
#include <c10/util/Exception.h>
#include <transformers/gptj/configuration_gptj.h>

#include <cmath>

#include "utils/json/config_reader.h"
#include "utils/json/config_writer.h"

namespace transformers {
namespace {

// One list of the sizes serves reading and writing. visit: GPT-J's key, HF's general one and pointer to member.
template <typename Visit>
void visit_sizes(const Visit& visit) {
  visit("n_positions", "max_position_embeddings", &GPTJConfig::n_positions);
  visit("n_embd", "hidden_size", &GPTJConfig::n_embd);
  visit("n_layer", "num_hidden_layers", &GPTJConfig::n_layer);
  visit("n_head", "num_attention_heads", &GPTJConfig::n_head);
}

// The same for the other plain fields, which have one key.
template <typename Visit>
void visit_plain_fields(const Visit& visit) {
  visit("rotary_dim", &GPTJConfig::rotary_dim);
  visit("n_inner", &GPTJConfig::n_inner);
  visit("resid_pdrop", &GPTJConfig::resid_pdrop);
  visit("embd_pdrop", &GPTJConfig::embd_pdrop);
  visit("attn_pdrop", &GPTJConfig::attn_pdrop);
  visit("layer_norm_epsilon", &GPTJConfig::layer_norm_epsilon);
}

/// Reads a field under its own name or under HF's general one; if both are present they must agree.
void read_aliased(ConfigReader& reader, const char* name, const char* alias, int64_t& field) {
  if (reader.has(alias)) {
    reader.read(alias, field);
  }
  const auto aliased = field;
  if (reader.has(name)) {
    reader.read(name, field);
  }
  TORCH_CHECK(!reader.has(alias) || aliased == field, reader.source(), ": \"", name, "\" and \"", alias,
              "\" mean the same and must agree, got ", field, " and ", aliased);
}

}  // namespace

GPTJConfig::GPTJConfig() {
  vocab_size = 50400;
  bos_token_id = 50256;
  eos_token_id = {50256};
}

GPTJConfig GPTJConfig::from_json(std::string_view text, const std::string& source) {
  GPTJConfig config;
  config.read_json(text, source);
  return config;
}

GPTJConfig GPTJConfig::from_pretrained(const ModelFolder& folder) {
  GPTJConfig config;
  config.read_folder(folder);
  return config;
}

void GPTJConfig::read_fields(ConfigReader& reader) {
  PretrainedConfig::read_fields(reader);
  visit_sizes(
      [&](const char* name, const char* alias, auto member) { read_aliased(reader, name, alias, this->*member); });
  visit_plain_fields([&](const char* key, auto member) { reader.read(key, this->*member); });
  reader.read_named<Activation>("activation_function", activation_function, activation_from_name);
  reader.read("head_dim", head_dim);
}

void GPTJConfig::write_fields(ConfigWriter& writer) const {
  PretrainedConfig::write_fields(writer);
  visit_sizes([&](const char* name, const char*, auto member) { writer.write(name, this->*member); });
  visit_plain_fields([&](const char* key, auto member) { writer.write(key, this->*member); });
  writer.write("activation_function", activation_name(activation_function));
  writer.write_if_set("head_dim", head_dim);
}

ModelSizes GPTJConfig::sizes() const {
  return {.hidden_size = n_embd,
          .num_hidden_layers = n_layer,
          .num_attention_heads = n_head,
          .num_key_value_heads = n_head,
          .head_dim = head_size(),
          .intermediate_size = inner_size()};
}

void GPTJConfig::set_sizes(const ModelSizes& sizes) {
  if (sizes.intermediate_size != inner_size() || sizes.hidden_size != n_embd) {
    n_inner = sizes.intermediate_size;
  }
  n_embd = sizes.hidden_size;
  n_layer = sizes.num_hidden_layers;
  n_head = sizes.num_attention_heads;
  const bool is_derived = n_head * sizes.head_dim == n_embd;
  head_dim = is_derived ? std::nullopt : std::make_optional(sizes.head_dim);
}

std::unique_ptr<PretrainedConfig> GPTJConfig::copy() const { return std::make_unique<GPTJConfig>(*this); }

std::string GPTJConfig::inexpressible_sizes(const ModelSizes& sizes) const {
  if (sizes.num_attention_heads * sizes.head_dim == sizes.hidden_size) {
    return {};
  }
  return "transformers' GPT-J has no head_dim: its heads must make up n_embd, left are " +
         std::to_string(sizes.num_attention_heads) + " heads of " + std::to_string(sizes.head_dim) + " and n_embd " +
         std::to_string(sizes.hidden_size);
}

void GPTJConfig::validate() const {
  check_size("n_positions", n_positions);
  check_size("n_embd", n_embd);
  check_size("n_layer", n_layer);
  check_size("n_head", n_head);
  check_size("n_inner", n_inner.value_or(1));
  PretrainedConfig::validate();
  check_size("head_dim", head_dim.value_or(1));
  TORCH_CHECK(head_dim || n_embd % n_head == 0, "n_embd must be divisible by n_head, got ", n_embd, " and ", n_head);
  TORCH_CHECK(rotary_dim > 0 && rotary_dim % 2 == 0 && rotary_dim <= head_size(), "rotary_dim must be even and in [2, ",
              head_size(), "] (the size of a head), got ", rotary_dim);
  check_pruning();
  check_parameter_bytes(
      {{n_layer, n_embd, n_head * head_size()}, {n_layer, n_embd, inner_size()}, {1, vocab_size, n_embd}});
  TORCH_CHECK(std::isfinite(layer_norm_epsilon) && layer_norm_epsilon > 0, "layer_norm_epsilon must be above 0, got ",
              layer_norm_epsilon);
  check_probability("resid_pdrop", resid_pdrop);
  check_probability("embd_pdrop", embd_pdrop);
  check_probability("attn_pdrop", attn_pdrop);
}

}  // namespace transformers
