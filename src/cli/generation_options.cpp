#include "cli/generation_options.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "utils/json/strict_json.h"

namespace transformers::cli {
namespace {

struct Field {
  const char* name;
  const char* help;
};

constexpr std::array kFields{
    Field{"max_length", "maximum number of tokens, including the prompt"},
    Field{"max_new_tokens", "maximum number of new tokens (20)"},
    Field{"min_length", "minimum number of tokens, including the prompt"},
    Field{"min_new_tokens", "minimum number of new tokens"},
    Field{"max_time", "time limit in seconds"},
    Field{"temperature", "above 0; divides the scores (1.0)"},
    Field{"top_k", "keep the k best tokens, 0: all (50)"},
    Field{"top_p", "keep the best tokens up to this probability (1.0)"},
    Field{"min_p", "keep tokens of at least this share of the best one's probability"},
    Field{"top_h", "keep the best tokens up to this share of the entropy"},
    Field{"typical_p", "keep typical tokens up to this probability (1.0)"},
    Field{"epsilon_cutoff", "drop tokens below this probability"},
    Field{"eta_cutoff", "the same, adapted to the entropy"},
    Field{"repetition_penalty", "divides the scores of tokens that already occurred (1.0)"},
    Field{"no_repeat_ngram_size", "forbid repeated n-grams of this size, 0: off"},
    Field{"num_beams", "number of beams (1)"},
    Field{"length_penalty", "exponent of the length in a beam's score (1.0)"},
    Field{"early_stopping", "of beam search: true, false or never"},
    Field{"num_return_sequences", "texts per prompt (1)"},
    Field{"bad_words_ids", "JSON, e.g. [[1,2],[3]]: sequences of tokens that must not occur"},
    Field{"sequence_bias", "JSON, e.g. [[[1,2],-2.5]]: added to the score of a sequence's last token"},
    Field{"suppress_tokens", "JSON list of tokens that must not occur"},
    Field{"begin_suppress_tokens", "JSON list of tokens that must not come first"},
    Field{"forced_bos_token_id", "the first new token"},
    Field{"forced_eos_token_id", "the token at max_length"},
    Field{"exponential_decay_length_penalty", "JSON, [start, factor]: raises the end token's score"},
    Field{"prompt_lookup_num_tokens", "draft up to this many tokens from the text itself and verify them in one step"},
    Field{"max_matching_ngram_size", "longest end of the text that is looked up for a draft (2)"},
    Field{"num_assistant_tokens", "tokens that --assistant-model drafts at a time (20)"},
    Field{"num_assistant_tokens_schedule", "constant, or heuristic: more after success, fewer after failure"},
    Field{"assistant_confidence_threshold", "a draft ends with a token less probable than this (0.4)"},
    Field{"guidance_scale", "classifier-free guidance; above 1: weight of the prompt"},
    Field{"eos_token_id", "one id or a JSON list, []: none"},
    Field{"pad_token_id", "fills rows that have ended"},
    Field{"bos_token_id", "first token of a text without a prompt"},
};
constexpr std::array kFlags{
    Field{"do_sample", "sample tokens instead of taking the most likely"},
    Field{"renormalize_logits", "make processed scores log-probabilities"},
    Field{"remove_invalid_values", "replace NaN and infinite scores"},
};

std::string dashed(std::string name) {
  std::ranges::replace(name, '_', '-');
  return "--" + name;
}

/// Numbers, lists and booleans are read as JSON; any other text is a string.
nlohmann::ordered_json json_value(const std::string& text) {
  try {
    return parse_strict_json(text, "command line");
  } catch (const c10::Error&) {
    return text;
  }
}

}  // namespace

void GenerationOptions::add_to(CLI::App& command) {
  const char* group = "Generation (command line, then generation_config.json, then the default in brackets)";
  for (const auto& field : kFields) {
    command
        .add_option_function<std::string>(
            dashed(field.name), [this, name = field.name](const std::string& text) { values_[name] = text; },
            field.help)
        ->group(group);
  }
  for (const auto& flag : kFlags) {
    command
        .add_flag_function(
            dashed(flag.name),
            [this, name = flag.name](int64_t count) { values_[name] = count > 0 ? "true" : "false"; }, flag.help)
        ->group(group);
  }
  command.add_option("--stop", stop_strings_, "text at which to stop; may be repeated")
      ->group(group)
      ->take_all()
      ->allow_extra_args(false);
}

GenerationConfig GenerationOptions::config() const {
  auto object = nlohmann::ordered_json::object();
  for (const auto& [name, text] : values_) {
    object[name] = json_value(text);
  }
  if (!stop_strings_.empty()) {
    object["stop_strings"] = stop_strings_;
  }
  auto config = GenerationConfig::from_json(object.dump(), "command line");
  TORCH_CHECK(config.temperature.value_or(0) >= 0, "command line: temperature must not be negative, got ",
              *config.temperature);
  return config;
}

}  // namespace transformers::cli
