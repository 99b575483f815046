#include "utils/generation/logits_processor_list.h"

#include <ATen/ATen.h>

#include "utils/generation/guidance.h"
#include "utils/generation/vocabulary_ids.h"

namespace transformers {
namespace {

using Processors = std::vector<std::shared_ptr<LogitsProcessor>>;

template <typename Processor, typename... Arguments>
void add(Processors& processors, Arguments&&... arguments) {
  processors.push_back(std::make_shared<Processor>(std::forward<Arguments>(arguments)...));
}

void check_known(const char* option, const std::vector<int64_t>& ids, const CausalLM& model) {
  for (const auto id : ids) {
    TORCH_CHECK(id >= 0 && id < model.config().vocab_size, option, " must be in [0, ", model.config().vocab_size,
                "), got ", id);
  }
}

void add_penalties(Processors& processors, const GenerationConfig& config, const ProcessorContext& context) {
  if (!config.sequence_bias.empty()) {
    for (const auto& [ids, bias] : config.sequence_bias) {
      check_known("the ids of sequence_bias", ids, context.model);
    }
    add<SequenceBiasLogitsProcessor>(processors, config.sequence_bias);
  }
  if (config.repetition_penalty.value_or(1) != 1) {
    const auto& mask = context.attention_mask;
    add<RepetitionPenaltyLogitsProcessor>(processors, *config.repetition_penalty,
                                          mask.defined() ? mask.ne(0).to(at::kInt).argmax(1) : at::Tensor());
  }
  if (config.no_repeat_ngram_size.value_or(0) > 0) {
    add<NoRepeatNGramLogitsProcessor>(processors, *config.no_repeat_ngram_size);
  }
  if (!config.bad_words_ids.empty()) {
    for (const auto& ids : config.bad_words_ids) {
      check_known("bad_words_ids", ids, context.model);
    }
    add<NoBadWordsLogitsProcessor>(processors, config.bad_words_ids, context.eos_token_id);
  }
}

void add_length_rules(Processors& processors, const GenerationConfig& config, const ProcessorContext& context) {
  const auto& eos = context.eos_token_id;
  if (!eos.empty() && config.min_length.value_or(0) > 0) {
    add<MinLengthLogitsProcessor>(processors, *config.min_length, eos);
  }
  if (!eos.empty() && config.min_new_tokens.value_or(0) > 0) {
    add<MinNewTokensLengthLogitsProcessor>(processors, context.prompt_length, *config.min_new_tokens, eos);
  }
}

void add_constraints(Processors& processors, const GenerationConfig& config, const ProcessorContext& context) {
  if (config.forced_bos_token_id) {
    check_known("forced_bos_token_id", {*config.forced_bos_token_id}, context.model);
    add<ForcedBOSTokenLogitsProcessor>(processors, *config.forced_bos_token_id);
  }
  if (!config.forced_eos_token_id.empty()) {
    check_known("forced_eos_token_id", config.forced_eos_token_id, context.model);
    add<ForcedEOSTokenLogitsProcessor>(processors, context.max_length, config.forced_eos_token_id);
  }
  if (config.remove_invalid_values.value_or(false)) {
    add<InfNanRemoveLogitsProcessor>(processors);
  }
  if (config.exponential_decay_length_penalty) {
    TORCH_CHECK(!context.eos_token_id.empty(), "exponential_decay_length_penalty needs an eos_token_id, none is set");
    add<ExponentialDecayLengthPenalty>(processors, *config.exponential_decay_length_penalty, context.eos_token_id,
                                       context.prompt_length);
  }
  if (const auto suppressed = ids_of_vocabulary(config.suppress_tokens, context.model.config()); !suppressed.empty()) {
    add<SuppressTokensLogitsProcessor>(processors, suppressed);
  }
  if (const auto suppressed = ids_of_vocabulary(config.begin_suppress_tokens, context.model.config());
      !suppressed.empty()) {
    const bool after_bos = context.prompt_length <= 1 && config.forced_bos_token_id.has_value();
    add<SuppressTokensAtBeginLogitsProcessor>(processors, suppressed, context.prompt_length + (after_bos ? 1 : 0));
  }
}

void add_warpers(Processors& processors, const GenerationConfig& config, const ProcessorContext& context) {
  // Beams need a token other than the end tokens to continue with.
  const auto kept = config.num_beams.value_or(1) > 1 ? static_cast<int64_t>(context.eos_token_id.size()) + 1 : 1;
  if (config.temperature.value_or(1) != 1) {
    add<TemperatureLogitsWarper>(processors, *config.temperature);
  }
  if (config.top_h) {
    add<TopHLogitsWarper>(processors, *config.top_h);
  }
  constexpr int64_t default_top_k = 50;
  if (const auto top_k = config.top_k.value_or(default_top_k); top_k > 0 && top_k < context.model.config().vocab_size) {
    add<TopKLogitsWarper>(processors, top_k, kept);
  }
  if (config.top_p.value_or(1) < 1) {
    add<TopPLogitsWarper>(processors, *config.top_p, kept);
  }
  if (config.min_p.value_or(0) > 0) {
    add<MinPLogitsWarper>(processors, *config.min_p, kept);
  }
  if (config.typical_p.value_or(1) < 1) {
    add<TypicalLogitsWarper>(processors, *config.typical_p, kept);
  }
  if (config.epsilon_cutoff.value_or(0) > 0) {
    add<EpsilonLogitsWarper>(processors, *config.epsilon_cutoff, kept);
  }
  if (config.eta_cutoff.value_or(0) > 0) {
    add<EtaLogitsWarper>(processors, *config.eta_cutoff, kept);
  }
}

}  // namespace

Processors make_logits_processors(const GenerationConfig& config, const ProcessorContext& context,
                                  const GenerateHooks& hooks) {
  Processors processors;
  if (config.guidance_scale.value_or(1) != 1) {
    add<UnbatchedClassifierFreeGuidanceLogitsProcessor>(processors, *config.guidance_scale, context.model,
                                                        hooks.negative_prompt_ids, hooks.negative_prompt_attention_mask,
                                                        config.use_cache.value_or(true));
  }
  add_penalties(processors, config, context);
  add_length_rules(processors, config, context);
  if (hooks.prefix_allowed_tokens) {
    add<PrefixConstrainedLogitsProcessor>(processors, hooks.prefix_allowed_tokens, config.num_beams.value_or(1));
  }
  add_constraints(processors, config, context);
  processors.insert(processors.end(), hooks.logits_processors.begin(), hooks.logits_processors.end());
  if (config.do_sample.value_or(false)) {
    add_warpers(processors, config, context);
  }
  if (config.watermarking_config) {
    add<WatermarkLogitsProcessor>(processors, context.model.config().vocab_size, *config.watermarking_config);
  }
  if (config.renormalize_logits.value_or(false)) {
    add<LogitNormalization>(processors);
  }
  return processors;
}

}  // namespace transformers
