#pragma once

#include <transformers/utils/configuration/generation_config.h>

namespace transformers {

/// One list of the plain fields serves reading, writing and merging. visit: key and pointer to member.
template <typename Visit>
void visit_generation_fields(const Visit& visit) {
  visit("max_length", &GenerationConfig::max_length);
  visit("max_new_tokens", &GenerationConfig::max_new_tokens);
  visit("min_length", &GenerationConfig::min_length);
  visit("min_new_tokens", &GenerationConfig::min_new_tokens);
  visit("max_time", &GenerationConfig::max_time);
  visit("do_sample", &GenerationConfig::do_sample);
  visit("num_beams", &GenerationConfig::num_beams);
  visit("length_penalty", &GenerationConfig::length_penalty);
  visit("num_return_sequences", &GenerationConfig::num_return_sequences);
  visit("use_cache", &GenerationConfig::use_cache);
  visit("cache_implementation", &GenerationConfig::cache_implementation);
  visit("prompt_lookup_num_tokens", &GenerationConfig::prompt_lookup_num_tokens);
  visit("max_matching_ngram_size", &GenerationConfig::max_matching_ngram_size);
  visit("num_assistant_tokens", &GenerationConfig::num_assistant_tokens);
  visit("num_assistant_tokens_schedule", &GenerationConfig::num_assistant_tokens_schedule);
  visit("assistant_confidence_threshold", &GenerationConfig::assistant_confidence_threshold);
  visit("guidance_scale", &GenerationConfig::guidance_scale);
  visit("temperature", &GenerationConfig::temperature);
  visit("top_k", &GenerationConfig::top_k);
  visit("top_p", &GenerationConfig::top_p);
  visit("min_p", &GenerationConfig::min_p);
  visit("top_h", &GenerationConfig::top_h);
  visit("typical_p", &GenerationConfig::typical_p);
  visit("epsilon_cutoff", &GenerationConfig::epsilon_cutoff);
  visit("eta_cutoff", &GenerationConfig::eta_cutoff);
  visit("repetition_penalty", &GenerationConfig::repetition_penalty);
  visit("no_repeat_ngram_size", &GenerationConfig::no_repeat_ngram_size);
  visit("renormalize_logits", &GenerationConfig::renormalize_logits);
  visit("forced_bos_token_id", &GenerationConfig::forced_bos_token_id);
  visit("remove_invalid_values", &GenerationConfig::remove_invalid_values);
  visit("output_scores", &GenerationConfig::output_scores);
  visit("output_logits", &GenerationConfig::output_logits);
  visit("pad_token_id", &GenerationConfig::pad_token_id);
  visit("bos_token_id", &GenerationConfig::bos_token_id);
}

/// The same for lists, of which an empty one counts as unset.
template <typename Visit>
void visit_generation_lists(const Visit& visit) {
  visit("stop_strings", &GenerationConfig::stop_strings);
  visit("bad_words_ids", &GenerationConfig::bad_words_ids);
  visit("sequence_bias", &GenerationConfig::sequence_bias);
  visit("suppress_tokens", &GenerationConfig::suppress_tokens);
  visit("begin_suppress_tokens", &GenerationConfig::begin_suppress_tokens);
}

}  // namespace transformers
