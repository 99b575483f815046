#pragma once

/// \file
/// The room utils/generation continues texts with a causal language model: decoding strategies, logits processors,
/// stopping criteria and streamers. It works on token ids; utils/tokenization turns texts into ids and back, and
/// utils/configuration/generation_config.h has the options.
///
///     const ModelFolder folder("llama-2-7b");
///     const auto tokenizer = load_tokenizer(folder);
///     const auto model = AutoModelForCausalLM::from_pretrained(folder);
///     const auto prompt = torch::tensor(tokenizer->encode("The capital of France is")).unsqueeze(0);
///     const auto output = generate(*model, {.input_ids = prompt}, {.max_new_tokens = 8});
///     std::cout << tokenizer->decode(output.sequences[0]) << '\n';

#include <ATen/core/Generator.h>
#include <transformers/export.h>
#include <transformers/utils/generation/logits_process.h>
#include <transformers/utils/generation/stopping_criteria.h>
#include <transformers/utils/generation/streamers.h>
#include <transformers/utils/modeling/causal_lm.h>

#include <memory>
#include <optional>
#include <vector>

namespace TRANSFORMERS_API transformers {

class Tokenizer;

/// Mirrors HF's `GenerateDecoderOnlyOutput` and `GenerateBeamDecoderOnlyOutput`. `rows` is the batch size times
/// num_return_sequences; for values of single steps of a beam search, the batch size times num_beams.
struct GenerateOutput {
  at::Tensor sequences;            // int64 [rows, prompt + new]; the new ids only when inputs_embeds alone are given
  std::vector<at::Tensor> scores;  // with output_scores: processed scores, fp32 [rows, vocab] per step
  std::vector<at::Tensor> logits;  // with output_logits: raw scores, fp32 [rows, vocab] per step
  std::vector<std::vector<at::Tensor>> attentions,
      hidden_states;                       // if ModelInputs asks for them; by step, then by layer
  at::Tensor sequences_scores;             // beams: fp32 [rows], best first in each batch row
  at::Tensor beam_indices;                 // beams: int64 [rows, new]; −1 after a text's end
  std::shared_ptr<Cache> past_key_values;  // null without a cache; lacks the last token
  // Statistics
  int64_t prompt_tokens = 0;    // of the batch, without padding
  int64_t new_tokens = 0;       // of all sequences, without padding
  int64_t drafted_tokens = 0;   // by assisted decoding
  int64_t accepted_tokens = 0;  // of these, part of new_tokens
  double prefill_seconds = 0;   // until the first new token is known
  double decode_seconds = 0;    // from there to the last
};

/// Arguments of a call that a config file cannot hold.
struct GenerateHooks {
  std::vector<std::shared_ptr<LogitsProcessor>> logits_processors{};  // run after the built-in ones, before sampling's
  std::vector<std::shared_ptr<StoppingCriteria>> stopping_criteria{};
  PrefixAllowedTokens prefix_allowed_tokens{};
  std::shared_ptr<Streamer> streamer{};          // not with beams
  std::shared_ptr<const Tokenizer> tokenizer{};  // needed for stop_strings
  /// Drafts tokens that the model verifies in one forward. It must have the model's vocabulary and device.
  std::shared_ptr<CausalLM> assistant_model{};
  std::optional<at::Generator> generator{};     // unset: LibTorch's default one
  at::Tensor negative_prompt_ids{};             // int64 [rows, seq], for guidance_scale; undefined: the last token
  at::Tensor negative_prompt_attention_mask{};  // [rows, seq]
};

/// Continues texts with a model: greedy search, sampling, beam search or beam sampling. Mirrors
/// `GenerationMixin.generate` (generation/utils.py, transformers 5.23.0).
///
/// With an assistant_model or prompt_lookup_num_tokens, greedy search and sampling verify several drafted tokens in one
/// forward: fewer passes over the weights for the same greedy tokens, or for samples of the same distribution. That is
/// for one row with a dynamic cache.
///
/// inputs: input_ids int64 [batch, seq] and/or inputs_embeds (used for the first step only); without both the text
/// begins with bos_token_id. attention_mask [batch, seq], 0 at padding on the left; undefined: 0 at pad ids, if there
/// is a pad id that is not an end token. A cache that is passed in continues to grow; pass the whole text with it, or
/// only the new part with a mask over all of it. Afterwards the cache holds all tokens but the last.
///
/// Options come from `config`, then model.generation_config, then HF's defaults; max_new_tokens takes precedence over
/// max_length. Finished rows are filled with pad_token_id (unset: the first end token). Pass −1 as the end token to
/// generate without one.
///
/// Throws on invalid options (see GenerationConfig::validate), a prompt that reaches max_length, an empty prompt,
/// forbidden words outside the vocabulary, stop strings without a tokenizer, a streamer with beams, and assisted
/// decoding of several rows or with beams, embeddings, guidance, an assistant of another vocabulary or another cache
/// than a dynamic one. Records no gradients. Model and cache stay usable after an exception from a hook.
///
/// Any number of threads may generate with one model concurrently, each with its own cache, hooks and streamer. Threads
/// that sample share LibTorch's default generator unless each passes its own.
GenerateOutput generate(CausalLM& model, const ModelInputs& inputs, const GenerationConfig& config = {},
                        const GenerateHooks& hooks = {});

/// The score of each new token, fp32 [rows, new]; 0 after a text's end. sequences, scores, beam_indices: those of a
/// GenerateOutput; beam_indices is undefined without beams. normalize_logits: first turn scores into log-probabilities.
at::Tensor compute_transition_scores(const at::Tensor& sequences, const std::vector<at::Tensor>& scores,
                                     const at::Tensor& beam_indices = {}, bool normalize_logits = false);

}  // namespace transformers
