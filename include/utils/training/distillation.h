#pragma once

#include <transformers/export.h>
#include <transformers/utils/modeling/causal_lm.h>
#include <transformers/utils/training/trainer.h>

#include <optional>

namespace TRANSFORMERS_API transformers {

struct DistillationOptions {
  /// Temperature of both distributions; the divergence is multiplied by its square, so that gradients keep their size.
  double temperature = 2;
  /// Weight of the divergence from the teacher, in [0, 1]; the rest is cross-entropy with the labels.
  double alpha = 0.5;
};

/// alpha · T² · KL(teacher ‖ student) at temperature T + (1 − alpha) · next-token cross-entropy (Hinton et al. 2015),
/// fp32 []: the mean over learned positions, or their sum divided by `num_items`. logits: [batch, seq, vocab]; those of
/// the teacher get no gradient. labels: int64 [batch, seq], −100 where nothing is learned; they are shifted here.
at::Tensor distillation_loss(const at::Tensor& student_logits, const at::Tensor& teacher_logits,
                             const at::Tensor& labels, const DistillationOptions& options = {},
                             std::optional<double> num_items = std::nullopt);

/// Trains `student` on the outputs of `teacher`, which runs in eval mode and without gradients, for the same batches.
/// Both must have the same vocabulary; the teacher may be on another device. Both must outlive the task.
TrainingTask distillation_task(CausalLM& student, CausalLM& teacher, const DistillationOptions& options = {});

}  // namespace transformers
