#pragma once

#include <transformers/export.h>
#include <transformers/utils/files/model_folder.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

struct PretrainedConfig;

/// How long beam search continues once it has enough finished texts.
enum class EarlyStopping { kNo, kYes, kNever };

/// Watermarks generated text, so that a detector can recognise it. Mirrors HF's `WatermarkingConfig`.
struct WatermarkingConfig {
  double greenlist_ratio = 0.25;  // share of the vocabulary that is preferred at a step, in (0, 1)
  double bias = 2.0;              // added to the preferred tokens' scores
  int64_t hashing_key = 15485863;
  bool self_hash = false;     // seeding_scheme "selfhash": the preferred tokens depend on the token itself as well
  int64_t context_width = 1;  // tokens they depend on
};

/// Mirrors HF's `GenerationConfig` (generation/configuration_utils.py, transformers 5.23.0); field names are the keys
/// of generation_config.json. A model has one, and a call may pass another. Options of a call take precedence over
/// those of the model; fields that are unset in both take HF's defaults, which the comments give.
struct GenerationConfig {
  // Length, in tokens
  std::optional<int64_t> max_length{};      // prompt included; used when max_new_tokens is unset
  std::optional<int64_t> max_new_tokens{};  // 20 when neither is set
  std::optional<int64_t> min_length{};      // 0; prompt included
  std::optional<int64_t> min_new_tokens{};  // unset
  std::optional<double> max_time{};         // seconds
  std::vector<std::string> stop_strings{};
  // Strategy
  std::optional<bool> do_sample{};                    // false
  std::optional<int64_t> num_beams{};                 // 1
  std::optional<EarlyStopping> early_stopping{};      // no
  std::optional<double> length_penalty{};             // 1.0
  std::optional<int64_t> num_return_sequences{};      // 1
  std::optional<bool> use_cache{};                    // true
  std::optional<std::string> cache_implementation{};  // "dynamic"; "static"
  // Assisted decoding: tokens are drafted and the model verifies several in one forward. One row, no beams.
  std::optional<int64_t> prompt_lookup_num_tokens{};  // unset: off; drafts are copied from the text itself
  std::optional<int64_t> max_matching_ngram_size{};   // 2; the longest end of the text that is looked up
  std::optional<int64_t> num_assistant_tokens{};      // 20; drafted at a time by GenerateHooks::assistant_model
  std::optional<std::string> num_assistant_tokens_schedule{};  // "constant"; "heuristic", "heuristic_transient"
  std::optional<double> assistant_confidence_threshold{};      // 0.4; a draft ends with a token less probable than this
  // Scores; processed in HF's order
  std::optional<double> guidance_scale{};  // 1.0: off
  std::optional<double> temperature{};     // 1.0
  std::optional<int64_t> top_k{};          // 50; 0: off
  std::optional<double> top_p{};           // 1.0
  std::optional<double> min_p{};
  std::optional<double> top_h{};
  std::optional<double> typical_p{};              // 1.0
  std::optional<double> epsilon_cutoff{};         // 0.0
  std::optional<double> eta_cutoff{};             // 0.0
  std::optional<double> repetition_penalty{};     // 1.0
  std::optional<int64_t> no_repeat_ngram_size{};  // 0: off
  std::vector<std::vector<int64_t>> bad_words_ids{};
  std::vector<std::pair<std::vector<int64_t>, double>> sequence_bias{};
  std::optional<bool> renormalize_logits{};  // false
  std::optional<int64_t> forced_bos_token_id{};
  std::vector<int64_t> forced_eos_token_id{};
  std::optional<bool> remove_invalid_values{};                                   // false
  std::optional<std::pair<int64_t, double>> exponential_decay_length_penalty{};  // start, factor
  std::vector<int64_t> suppress_tokens{}, begin_suppress_tokens{};
  std::optional<WatermarkingConfig> watermarking_config{};
  // Output
  std::optional<bool> output_scores{};  // false
  std::optional<bool> output_logits{};  // false
  // Special tokens
  std::optional<int64_t> pad_token_id{};
  std::optional<int64_t> bos_token_id{};
  std::vector<int64_t> eos_token_id{};  // {-1}, in files also []: none

  /// Keys that this library does not know, as JSON text; written back on save.
  std::map<std::string, std::string> unknown_keys{};

  /// Throws, naming field, rule and value. `generate` calls it on the merged options of a call.
  void validate() const;
  /// Throws where an unknown key asks for a decoding strategy that is not implemented (contrastive search, groups of
  /// beams, DoLa, constraints, …), as ignoring it would change the result.
  void check_supported() const;
  /// This config, with unset fields taken from `defaults`.
  GenerationConfig with_defaults(const GenerationConfig& defaults) const;

  /// Throws where `validate` does.
  static GenerationConfig from_json(std::string_view text, const std::string& source = "GenerationConfig");
  /// Reads `folder`/generation_config.json, else the options in `folder`/config.json. Only types are checked here, so
  /// that an option that a call overrides or does not use never prevents a model from loading.
  static GenerationConfig from_pretrained(const ModelFolder& folder);
  /// The options that a model's config holds: its special tokens.
  static GenerationConfig from_model_config(const PretrainedConfig& config);
  std::string to_json() const;
  /// Writes `folder`/generation_config.json, atomically.
  void save_pretrained(const std::string& folder) const;
};

}  // namespace transformers
