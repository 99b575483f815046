#pragma once

#include <transformers/export.h>
#include <transformers/utils/modeling/causal_lm.h>
#include <transformers/utils/modeling/modeling_layers.h>
#include <transformers/utils/training/trainer.h>

namespace TRANSFORMERS_API transformers {

struct CausalLMTaskOptions {
  double label_smoothing = 0;
  /// See CausalLMOptions::loss_chunk_rows. Unset: as many as fit in 24 MiB of logits, where the head allows it, else 0.
  std::optional<int64_t> loss_chunk_rows{};
};

// The tasks of the library's models. A batch's tensors are forward arguments by HF's names; an unknown name is an
// error. The models must outlive the tasks.

/// The mean next-token loss over all learned tokens of a step.
TrainingTask causal_lm_task(CausalLM& model, CausalLMTaskOptions options = {});
/// The mean over the texts of a step; labels: [batch] or [batch, labels].
TrainingTask sequence_classification_task(GenericForSequenceClassification& model);
/// The mean over the learned tokens of a step; labels: int64 [batch, seq].
TrainingTask token_classification_task(GenericForTokenClassification& model);
/// The mean over the texts of a step; start_positions, end_positions: int64 [batch].
TrainingTask question_answering_task(GenericForQuestionAnswering& model);

}  // namespace transformers
