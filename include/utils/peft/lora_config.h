#pragma once

#include <transformers/export.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// Selects modules of a model: by the last segments of their names ("q_proj", "self_attn.q_proj"), or by one regular
/// expression that has to match the whole name. peft's `list[str] | str`.
struct ModuleSelection {
  std::vector<std::string> names{};
  /// Used instead of names. For `target_modules`, "all-linear" selects every Linear except the output layer.
  std::string regex{};

  bool empty() const { return names.empty() && regex.empty(); }
};

/// Which biases of the model are trained with an adapter. They belong to the model: they keep what they learned when
/// the adapter is switched off.
enum class LoraBias { kNone, kAll, kLoraOnly };

/// How new matrices are initialized. kEva and kOrthogonal occur only in files that already hold the matrices; this
/// library does not compute such values.
enum class LoraInit { kKaiming, kRandom, kGaussian, kEva, kOrthogonal };

/// Mirrors peft's `LoraConfig` (tuners/lora/config.py, peft 0.21.2): the fields are the keys of adapter_config.json,
/// with peft's defaults. Options that change the computation in a way that is not implemented (VeLoRA, aLoRA, QALoRA,
/// layer replication, trainable tokens, initialisations that rewrite the base weights, ...) are an error at load.
struct LoraConfig {
  /// CAUSAL_LM, SEQ_CLS, TOKEN_CLS, QUESTION_ANS, ...; a task with its own head adds that head to `modules_to_save`.
  std::optional<std::string> task_type{};
  std::optional<std::string> base_model_name_or_path{}, revision{};
  /// The adapter is frozen, for inference only.
  bool inference_mode = false;
  /// Rank, the inner size of the two matrices.
  int64_t r = 8;
  /// B · A is scaled by alpha / r, or with `use_rslora` by alpha / sqrt(r).
  double lora_alpha = 8;
  bool use_rslora = false;
  /// Dropout on the adapter's input, in training only.
  double lora_dropout = 0;
  /// Empty target_modules: q_proj and v_proj for both families.
  ModuleSelection target_modules{}, exclude_modules{};
  /// Modules whose names end with one of these are trained as a whole; each adapter has its own copy.
  std::vector<std::string> modules_to_save{};
  LoraBias bias = LoraBias::kNone;
  /// Whether the second matrix has a bias.
  bool lora_bias = false;
  LoraInit init_lora_weights = LoraInit::kKaiming;
  /// Only layers with these numbers (empty: all), where the number follows one of the names in `layers_pattern` (empty:
  /// any).
  std::vector<int64_t> layers_to_transform{};
  std::vector<std::string> layers_pattern{};
  /// Ranks and alphas of modules whose names end with a match of the regular expression; the first match in this order,
  /// which is that of the file, is used.
  std::vector<std::pair<std::string, int64_t>> rank_pattern{};
  std::vector<std::pair<std::string, double>> alpha_pattern{};
  /// Train magnitude and direction of a weight separately (DoRA, Liu et al. 2024).
  bool use_dora = false;
  /// A module to save that shares its weight with another one stays tied to it; false gives it a separate weight.
  bool ensure_weight_tying = false;
  /// Keys of the file that are not fields here, as JSON text; written back on save.
  std::map<std::string, std::string> unknown_keys{};

  /// Throws, naming field, rule and value.
  void validate() const;

  /// The text of adapter_config.json: two spaces of indent, and sorted keys except in the patterns, whose order
  /// matters.
  std::string to_json() const;
  /// `source` names the text in errors.
  static LoraConfig from_json(std::string_view text, const std::string& source = "adapter config");
  /// Reads `folder`/adapter_config.json.
  static LoraConfig from_pretrained(const std::string& folder);
};

}  // namespace transformers
