#pragma once

#include <transformers/export.h>
#include <transformers/utils/configuration/configuration_utils.h>
#include <transformers/utils/modeling/activations.h>
#include <transformers/utils/modeling/rope.h>

#include <optional>
#include <string>
#include <string_view>

namespace TRANSFORMERS_API transformers {

/// Mirrors HF's `LlamaConfig` (configuration_llama.py, transformers 5.23.0); field names are the keys of config.json.
struct LlamaConfig : PretrainedConfig {
  LlamaConfig();

  int64_t hidden_size = 4096;
  int64_t intermediate_size = 11008;
  int64_t num_hidden_layers = 32;
  int64_t num_attention_heads = 32;
  std::optional<int64_t> num_key_value_heads;  // unset: num_attention_heads; read through kv_heads()
  Activation hidden_act = Activation::kSilu;
  int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-6;
  int64_t pretraining_tp = 1;      // > 1: linear layers are computed in that many slices, as in transformers 4.x
  RopeParameters rope_parameters;  // every spelling in a file is converted to this
  bool attention_bias = false;
  double attention_dropout = 0.0;
  bool mlp_bias = false;
  std::optional<int64_t> head_dim;  // unset: hidden_size / num_attention_heads; read through head_size()

  int64_t kv_heads() const { return num_key_value_heads.value_or(num_attention_heads); }
  int64_t head_size() const { return head_dim.value_or(hidden_size / num_attention_heads); }

  std::string model_type() const override { return "llama"; }
  int64_t get_hidden_size() const override { return hidden_size; }
  int64_t get_num_hidden_layers() const override { return num_hidden_layers; }
  int64_t get_max_position_embeddings() const override { return max_position_embeddings; }
  ModelSizes sizes() const override;
  void set_sizes(const ModelSizes& sizes) override;
  std::unique_ptr<PretrainedConfig> copy() const override;
  void validate() const override;

  /// Parses and validates the text of a config.json; `source` names it in errors.
  static LlamaConfig from_json(std::string_view text, const std::string& source = "LlamaConfig");
  /// Reads and validates `folder`/config.json.
  static LlamaConfig from_pretrained(const ModelFolder& folder);

 protected:
  void read_fields(ConfigReader& reader) override;
  void write_fields(ConfigWriter& writer) const override;
  std::string inexpressible_sizes(const ModelSizes& sizes) const override;

 private:
  void check_pretraining_tp() const;
};

}  // namespace transformers
