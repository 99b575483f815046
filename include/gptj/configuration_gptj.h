#pragma once

#include <transformers/export.h>
#include <transformers/utils/configuration/configuration_utils.h>
#include <transformers/utils/modeling/activations.h>

#include <optional>
#include <string>
#include <string_view>

namespace TRANSFORMERS_API transformers {

/// Mirrors HF's `GPTJConfig` (configuration_gptj.py, transformers 5.23.0); field names are the keys of config.json. The
/// aliases max_position_embeddings, hidden_size, num_attention_heads and num_hidden_layers are read as n_positions,
/// n_embd, n_head and n_layer.
struct GPTJConfig : PretrainedConfig {
  GPTJConfig();

  int64_t n_positions = 2048;
  int64_t n_embd = 4096;
  int64_t n_layer = 28;
  int64_t n_head = 16;
  int64_t rotary_dim = 64;         // number of rotated dimensions of each head, the first ones
  std::optional<int64_t> n_inner;  // unset: 4 · n_embd; read through inner_size()
  Activation activation_function = Activation::kGeluNew;
  // A key of the library-only form, for models that have lost heads or hidden units; transformers supports only n_embd
  // / n_head.
  std::optional<int64_t> head_dim;
  double resid_pdrop = 0.0;
  double embd_pdrop = 0.0;
  double attn_pdrop = 0.0;
  double layer_norm_epsilon = 1e-5;

  int64_t head_size() const { return head_dim.value_or(n_embd / n_head); }
  int64_t inner_size() const { return n_inner.value_or(4 * n_embd); }

  std::string model_type() const override { return "gptj"; }
  int64_t get_hidden_size() const override { return n_embd; }
  int64_t get_num_hidden_layers() const override { return n_layer; }
  int64_t get_max_position_embeddings() const override { return n_positions; }
  bool has_last_position() const override { return true; }
  std::vector<std::string> additional_inputs() const override { return {"token_type_ids", "head_mask"}; }
  ModelSizes sizes() const override;
  void set_sizes(const ModelSizes& sizes) override;
  std::unique_ptr<PretrainedConfig> copy() const override;
  void validate() const override;

  /// Parses and validates the text of a config.json; `source` names it in errors.
  static GPTJConfig from_json(std::string_view text, const std::string& source = "GPTJConfig");
  /// Reads and validates `folder`/config.json.
  static GPTJConfig from_pretrained(const ModelFolder& folder);

 protected:
  void read_fields(ConfigReader& reader) override;
  void write_fields(ConfigWriter& writer) const override;
  std::string inexpressible_sizes(const ModelSizes& sizes) const override;
};

}  // namespace transformers
