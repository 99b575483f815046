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

/// Which modules of a model are meant: by the last segments of their names ("q_proj", "self_attn.q_proj"), or by one
/// regular expression that a whole name matches. peft's `list[str] | str`.
struct ModuleSelection {
  std::vector<std::string> names{};
  /// Instead of names; as `target_modules`, "all-linear" is every Linear but the output layer.
  std::string regex{};

  bool empty() const { return names.empty() && regex.empty(); }
};

/// Which biases of the model are trained with an adapter. They are the model's own: switching the adapter off leaves
/// what they learned.
enum class LoraBias { kNone, kAll, kLoraOnly };

/// How new matrices are initialized. kEva and kOrthogonal are read from files, whose matrices are there already;
/// nothing here makes such values.
enum class LoraInit { kKaiming, kRandom, kGaussian, kEva, kOrthogonal };

/// Mirrors peft's `LoraConfig` (tuners/lora/config.py, peft 0.21.2): the fields are the keys of adapter_config.json,
/// with peft's defaults. What changes the computation in a way that is not built here (VeLoRA, aLoRA, QALoRA, layer
/// replication, trainable tokens, initialisations that rewrite the base weights, ...) is an error at load.
struct LoraConfig {
  /// CAUSAL_LM, SEQ_CLS, TOKEN_CLS, QUESTION_ANS, ...; a task with a head of its own adds that head to
  /// `modules_to_save`.
  std::optional<std::string> task_type{};
  std::optional<std::string> base_model_name_or_path{}, revision{};
  /// Frozen: for use alone.
  bool inference_mode = false;
  /// Rank: the inner size of the two matrices.
  int64_t r = 8;
  /// The product is scaled by alpha / r, or with `use_rslora` by alpha / sqrt(r).
  double lora_alpha = 8;
  bool use_rslora = false;
  /// On the adapter's input, in training alone.
  double lora_dropout = 0;
  /// Empty: q_proj and v_proj for both families.
  ModuleSelection target_modules{}, exclude_modules{};
  /// Trained whole, each adapter with a copy of its own: modules whose names end so.
  std::vector<std::string> modules_to_save{};
  LoraBias bias = LoraBias::kNone;
  /// A bias in the second matrix.
  bool lora_bias = false;
  LoraInit init_lora_weights = LoraInit::kKaiming;
  /// Only layers of these numbers (empty: all), which stand behind one of the names in `layers_pattern` (empty: any).
  std::vector<int64_t> layers_to_transform{};
  std::vector<std::string> layers_pattern{};
  /// Ranks and alphas of modules whose names end in a match of the regular expression; of several that match, the first
  /// in this order, which is that of the file.
  std::vector<std::pair<std::string, int64_t>> rank_pattern{};
  std::vector<std::pair<std::string, double>> alpha_pattern{};
  /// Magnitude and direction of a weight apart (Liu et al. 2024).
  bool use_dora = false;
  /// A module to save that shares its weight with another stays tied to it; false gives it a weight of its own.
  bool ensure_weight_tying = false;
  /// Keys of the file that are not here, as JSON text; written back.
  std::map<std::string, std::string> unknown_keys{};

  /// Throws, naming field, rule and value.
  void validate() const;

  /// The text of adapter_config.json: keys sorted, but for the patterns, whose order counts; two spaces of indent.
  std::string to_json() const;
  /// `source` names the text in errors.
  static LoraConfig from_json(std::string_view text, const std::string& source = "adapter config");
  /// `folder`/adapter_config.json.
  static LoraConfig from_pretrained(const std::string& folder);
};

}  // namespace transformers
