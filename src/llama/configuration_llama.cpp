// Mirrors models/llama/configuration_llama.py, transformers 5.23.0.
#include <c10/util/Exception.h>
#include <transformers/llama/configuration_llama.h>

#include <cmath>

#include "utils/json/config_reader.h"
#include "utils/json/config_writer.h"
#include "utils/modeling/internal/rope_json.h"

namespace transformers {
namespace {

// One list of the plain fields serves reading and writing. visit: key and pointer to member.
template <typename Visit>
void visit_plain_fields(const Visit& visit) {
  visit("hidden_size", &LlamaConfig::hidden_size);
  visit("intermediate_size", &LlamaConfig::intermediate_size);
  visit("num_hidden_layers", &LlamaConfig::num_hidden_layers);
  visit("num_attention_heads", &LlamaConfig::num_attention_heads);
  visit("max_position_embeddings", &LlamaConfig::max_position_embeddings);
  visit("rms_norm_eps", &LlamaConfig::rms_norm_eps);
  visit("attention_bias", &LlamaConfig::attention_bias);
  visit("mlp_bias", &LlamaConfig::mlp_bias);
}

// The same for fields that a file may hold as null.
template <typename Visit>
void visit_nullable_fields(const Visit& visit) {
  visit("pretraining_tp", &LlamaConfig::pretraining_tp);
  visit("attention_dropout", &LlamaConfig::attention_dropout);
}

}  // namespace

LlamaConfig::LlamaConfig() {
  vocab_size = 32000;
  bos_token_id = 1;
  eos_token_id = {2};
}

LlamaConfig LlamaConfig::from_json(std::string_view text, const std::string& source) {
  LlamaConfig config;
  config.read_json(text, source);
  return config;
}

LlamaConfig LlamaConfig::from_pretrained(const ModelFolder& folder) {
  LlamaConfig config;
  config.read_folder(folder);
  return config;
}

void LlamaConfig::read_fields(ConfigReader& reader) {
  PretrainedConfig::read_fields(reader);
  visit_plain_fields([&](const char* key, auto member) { reader.read(key, this->*member); });
  visit_nullable_fields([&](const char* key, auto member) { reader.read_if_set(key, this->*member); });
  reader.read_named<Activation>("hidden_act", hidden_act, activation_from_name);
  reader.read("num_key_value_heads", num_key_value_heads);
  reader.read("head_dim", head_dim);
  rope_parameters = read_rope_parameters(reader, max_position_embeddings);
}

void LlamaConfig::write_fields(ConfigWriter& writer) const {
  PretrainedConfig::write_fields(writer);
  const auto write = [&](const char* key, auto member) { writer.write(key, this->*member); };
  visit_plain_fields(write);
  visit_nullable_fields(write);
  writer.write("hidden_act", activation_name(hidden_act));
  writer.write("num_key_value_heads", kv_heads());
  writer.write("head_dim", head_size());
  write_rope_parameters(writer, rope_parameters);
}

ModelSizes LlamaConfig::sizes() const {
  return {.hidden_size = hidden_size,
          .num_hidden_layers = num_hidden_layers,
          .num_attention_heads = num_attention_heads,
          .num_key_value_heads = kv_heads(),
          .head_dim = head_size(),
          .intermediate_size = intermediate_size};
}

void LlamaConfig::set_sizes(const ModelSizes& sizes) {
  hidden_size = sizes.hidden_size;
  num_hidden_layers = sizes.num_hidden_layers;
  num_attention_heads = sizes.num_attention_heads;
  num_key_value_heads = sizes.num_key_value_heads;
  head_dim = sizes.head_dim;
  intermediate_size = sizes.intermediate_size;
}

std::unique_ptr<PretrainedConfig> LlamaConfig::copy() const { return std::make_unique<LlamaConfig>(*this); }

std::string LlamaConfig::inexpressible_sizes(const ModelSizes& sizes) const {
  if (sizes.hidden_size % sizes.num_attention_heads == 0) {
    return {};
  }
  return "transformers 5.x wants hidden_size divisible by the number of heads, left are " +
         std::to_string(sizes.hidden_size) + " and " + std::to_string(sizes.num_attention_heads);
}

void LlamaConfig::check_pretraining_tp() const {
  const auto divides = [&](const char* field, int64_t size) {
    TORCH_CHECK(size % pretraining_tp == 0, "pretraining_tp must divide ", field, ", got ", pretraining_tp, " and ",
                size);
  };
  divides("vocab_size", vocab_size);
  divides("intermediate_size", intermediate_size);
  for (const auto width : intermediate_sizes) {
    divides("intermediate_sizes", width);
  }
  divides("the key projection", kv_heads() * head_size());
  divides("the query projection", num_attention_heads * head_size());
  for (const auto& [layer, heads] : pruned_heads) {
    divides("the key projection left by pruned_heads", num_key_value_heads_left(layer) * head_size());
    divides("the query projection left by pruned_heads", num_heads_left(layer) * head_size());
  }
}

void LlamaConfig::validate() const {
  check_size("hidden_size", hidden_size);
  check_size("intermediate_size", intermediate_size);
  check_size("num_hidden_layers", num_hidden_layers);
  check_size("num_attention_heads", num_attention_heads);
  check_size("num_key_value_heads", kv_heads());
  check_size("max_position_embeddings", max_position_embeddings);
  check_size("pretraining_tp", pretraining_tp);
  PretrainedConfig::validate();
  TORCH_CHECK(pad_token_id.value_or(0) < vocab_size, "pad_token_id must be below vocab_size, as it is a row of ",
              "embed_tokens, got ", pad_token_id.value_or(0), " and ", vocab_size);
  TORCH_CHECK(hidden_size % num_attention_heads == 0, "hidden_size must be divisible by num_attention_heads, got ",
              hidden_size, " and ", num_attention_heads);
  TORCH_CHECK(num_attention_heads % kv_heads() == 0,
              "num_attention_heads must be divisible by num_key_value_heads, got ", num_attention_heads, " and ",
              kv_heads());
  check_size("head_dim", head_size());
  check_pruning();
  check_parameter_bytes({{num_hidden_layers, hidden_size, num_attention_heads * head_size()},
                         {num_hidden_layers, hidden_size, intermediate_size},
                         {1, vocab_size, hidden_size}});
  TORCH_CHECK(std::isfinite(rms_norm_eps) && rms_norm_eps > 0, "rms_norm_eps must be above 0, got ", rms_norm_eps);
  check_probability("attention_dropout", attention_dropout);
  check_pretraining_tp();
  rope_parameters.validate(head_size());
  TORCH_CHECK(rope_parameters.partial_rotary_factor.value_or(1) == 1 ||
                  rope_parameters.rope_type == RopeType::kDefault ||
                  rope_parameters.rope_type == RopeType::kProportional,
              "rope_parameters: LLaMA rotates whole heads, partial_rotary_factor must be 1, got ",
              *rope_parameters.partial_rotary_factor);
}

}  // namespace transformers
