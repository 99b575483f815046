#pragma once

#include <transformers/export.h>
#include <transformers/utils/data/data_collator.h>
#include <transformers/utils/modeling/causal_lm.h>
#include <transformers/utils/peft/peft_model.h>
#include <transformers/utils/training/trainer.h>

namespace TRANSFORMERS_API transformers {

// Direct preference optimization (Rafailov et al. 2023) as TRL's DPOTrainer computes it with loss_type "sigmoid".

/// The sum of the log-probabilities of each row's learned tokens, fp32 [batch]. logits: [batch, seq, vocab]; labels:
/// int64 [batch, seq], the tokens themselves, −100 where nothing counts; they are shifted here.
at::Tensor sequence_log_probs(const at::Tensor& logits, const at::Tensor& labels);

/// `sequence_log_probs` of both answers under both models, each [pairs].
struct PreferenceLogProbs {
  at::Tensor policy_chosen{}, policy_rejected{}, reference_chosen{}, reference_rejected{};
};

struct DpoOptions {
  /// How strongly the policy is kept near the reference: larger is closer.
  double beta = 0.1;
  /// Probability that the preference of a pair is reversed, in [0, 0.5).
  double label_smoothing = 0;
};

/// Each [pairs]. A reward is beta times the difference between the policy's and the reference's log-probability; it has
/// no gradient.
struct DpoOutput {
  at::Tensor losses{}, chosen_rewards{}, rejected_rewards{};
};

DpoOutput dpo_loss(const PreferenceLogProbs& log_probs, const DpoOptions& options = {});

/// Samples with chosen_input_ids, chosen_labels, rejected_input_ids and rejected_labels, int64 [tokens] each (prompt
/// and answer; labels −100 on the prompt), become one batch of 2·pairs rows: first all chosen, then all rejected.
DataCollator preference_collator(int64_t pad_token_id);

/// The mean loss over the pairs of a step. The reference is the model with its adapters switched off, in eval mode, so
/// that no second model is needed. Model and adapters must outlive the task. TRL trains without dropout; to do the
/// same, use a config without dropout.
TrainingTask dpo_task(CausalLM& model, PeftModelImpl& adapters, const DpoOptions& options = {});

}  // namespace transformers
