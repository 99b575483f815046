#pragma once

/// \file
/// The room utils/configuration holds what the JSON files of a model say: the fields of config.json that all families
/// share, and the settings of generation_config.json. The families derive their configs from `PretrainedConfig`.
///
///     auto config = LlamaConfig::from_pretrained("llama-2-7b");
///     config.num_hidden_layers = 8;
///     config.save_pretrained("small-llama");

#include <c10/core/ScalarType.h>
#include <transformers/export.h>
#include <transformers/utils/configuration/attn_implementation.h>
#include <transformers/utils/configuration/output_hidden_states.h>
#include <transformers/utils/configuration/problem_type.h>
#include <transformers/utils/files/model_folder.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace transformers {
class ConfigReader;
class ConfigWriter;
}  // namespace transformers

namespace TRANSFORMERS_API transformers {

/// "float32", "bfloat16", "float16", "float64", as spelled by `dtype` in config.json, with or without "torch.".
c10::ScalarType dtype_from_name(std::string_view name);
std::string dtype_name(c10::ScalarType dtype);

/// The version of transformers whose form of config.json is written. The forms differ in `dtype` (`torch_dtype`) and
/// `rope_parameters` (`rope_theta` and `rope_scaling`). Both are read.
enum class ConfigFormat { kTransformers5, kTransformers4 };

/// A model's sizes under the same names for every family. Heads are counted as before any was pruned.
struct ModelSizes {
  int64_t hidden_size = 0, num_hidden_layers = 0;
  int64_t num_attention_heads = 0, num_key_value_heads = 0, head_dim = 0;
  int64_t intermediate_size = 0;
};

/// Numbers of heads, by layer.
using HeadsByLayer = std::map<int64_t, std::vector<int64_t>>;

/// The fields that the configs of all families share. Mirrors HF's `PreTrainedConfig` (configuration_utils.py,
/// transformers 5.23.0); fields are the keys of config.json.
struct PretrainedConfig {
  /// A head has a row and a name for each label.
  static constexpr int64_t kMostLabels = 1 << 16;

  virtual ~PretrainedConfig() = default;

  int64_t vocab_size = 0;
  double initializer_range = 0.02;  // standard deviation of newly initialized weights
  std::vector<std::string> architectures;
  std::optional<c10::ScalarType> dtype;  // of the stored weights; read as `dtype`, else `torch_dtype`
  bool tie_word_embeddings = false;
  bool use_cache = true;
  bool is_causal = true;  // false: every token attends to every other
  bool output_attentions = false;
  OutputHiddenStates output_hidden_states{};
  std::optional<int64_t> pad_token_id;  // −1 in a file is read as none
  std::optional<int64_t> bos_token_id;
  std::vector<int64_t> eos_token_id;  // one or several; empty: none
  std::map<int64_t, std::string> id2label{{0, "LABEL_0"}, {1, "LABEL_1"}};
  std::optional<ProblemType> problem_type;
  std::optional<double> classifier_dropout, hidden_dropout;  // of token classification; see classification_dropout()

  // Results of pruning that the family's own fields cannot express. transformers does not read these keys.
  HeadsByLayer pruned_heads;                // removed query heads, numbered as before pruning, ascending
  std::vector<int64_t> intermediate_sizes;  // of each layer's MLP; empty: equal in all layers

  /// Keys of the file that this library does not know, as JSON text; written back on save.
  std::map<std::string, std::string> unknown_keys;
  /// The attention kernel; never written to a file.
  AttnImplementation attn_implementation = AttnImplementation::kAuto;

  int64_t num_labels() const { return static_cast<int64_t>(id2label.size()); }
  /// Sets id2label to LABEL_0 … LABEL_{n−1}; existing names are kept if their number is right already.
  void set_num_labels(int64_t num_labels);
  /// Returns classifier_dropout, else hidden_dropout, else 0.1.
  double classification_dropout() const;

  // Sizes under one name, for code that does not depend on a family.
  virtual std::string model_type() const = 0;
  virtual int64_t get_hidden_size() const = 0;
  virtual int64_t get_num_hidden_layers() const = 0;
  virtual int64_t get_max_position_embeddings() const = 0;
  /// Whether positions from get_max_position_embeddings() on are an error.
  virtual bool has_last_position() const { return false; }
  /// Arguments of forward (fields of ModelInputs) that only this family takes.
  virtual std::vector<std::string> additional_inputs() const { return {}; }
  virtual ModelSizes sizes() const = 0;
  virtual void set_sizes(const ModelSizes& sizes) = 0;

  // The sizes of a layer after pruning.
  int64_t num_heads_left(int64_t layer) const;
  int64_t num_key_value_heads_left(int64_t layer) const;
  int64_t intermediate_size_left(int64_t layer) const;
  /// Sets one width per layer; written as one number where all are equal.
  void set_intermediate_sizes(std::vector<int64_t> sizes);
  /// Changes the config to that of a model with only these layers, in this order; fields that are listed by layer are
  /// renumbered.
  void keep_layers(const std::vector<int64_t>& layers);

  virtual std::unique_ptr<PretrainedConfig> copy() const = 0;
  /// Why transformers' config.json cannot express the pruned model; empty where it can.
  std::string inexpressible() const;

  /// Throws, naming field, rule and value, when values contradict each other or are out of range.
  virtual void validate() const;

  /// The text of config.json: keys sorted, two spaces of indent. Throws where the format cannot express a rope type.
  std::string to_json(ConfigFormat format = ConfigFormat::kTransformers5) const;
  /// The same in the HF-compatible form, in which pruned heads are simply fewer heads. Only where `inexpressible()` is
  /// empty.
  std::string to_plain_json(ConfigFormat format = ConfigFormat::kTransformers5) const;
  /// Writes `folder`/config.json, atomically. The folder must exist.
  void save_pretrained(const std::string& folder) const;

 protected:
  PretrainedConfig() = default;
  PretrainedConfig(const PretrainedConfig&) = default;
  PretrainedConfig(PretrainedConfig&&) = default;
  PretrainedConfig& operator=(const PretrainedConfig&) = default;
  PretrainedConfig& operator=(PretrainedConfig&&) = default;

  /// Each family reads its own keys and calls the base class; keys that nobody reads become `unknown_keys`.
  virtual void read_fields(ConfigReader& reader);
  virtual void write_fields(ConfigWriter& writer) const;
  /// Why the family's config cannot express these sizes, which hold for all layers; empty when it can.
  virtual std::string inexpressible_sizes(const ModelSizes& sizes) const = 0;
  /// Throws when `pruned_heads` or `intermediate_sizes` do not fit the sizes; part of each family's `validate`.
  void check_pruning() const;
  /// `source` names the text in errors. Warns when `model_type` is not the family's own.
  void read_json(std::string_view text, const std::string& source);
  /// The same for the folder's config.json.
  void read_folder(const ModelFolder& folder);

 private:
  void read(ConfigReader& reader);
};

/// `folder`/config.json.
std::string config_path(const std::string& folder);

/// Whether a key of config.json belongs to generation_config.json: old files have such keys, and saving omits them.
bool is_generation_key(std::string_view key);

/// Throws when a size is not in [1, 2^31).
void check_size(const char* field, int64_t value);
/// Throws when the weights of such shapes, each [layers, rows, columns], would take 2^63 bytes or more.
void check_parameter_bytes(const std::vector<std::array<int64_t, 3>>& shapes);
/// Throws when a probability is not in [0, 1].
void check_probability(const char* field, double value);

}  // namespace transformers
