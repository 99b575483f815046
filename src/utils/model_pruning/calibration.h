#pragma once

#include <vector>

#include "utils/model_pruning/parts.h"

namespace transformers::model_pruning {

/// Means over the calibration tokens, as `importance` describes them: fp64, one tensor per layer, or a single one for
/// hidden units.
std::vector<at::Tensor> activation_means(PreTrainedModel& model, PrunablePart part,
                                         const std::vector<at::Tensor>& calibration);

/// Gradients of the loss, summed in fp32 over the calibration batches, for these weights, which may be frozen. Their
/// `grad` is not set.
std::vector<at::Tensor> loss_gradients(PreTrainedModel& model, const std::vector<at::Tensor>& weights,
                                       const std::vector<at::Tensor>& calibration);

}  // namespace transformers::model_pruning
