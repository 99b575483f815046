#pragma once

#include <transformers/utils/modeling/pretrained_model.h>
#include <transformers/utils/training/dataset_check.h>
#include <transformers/utils/training/evaluation.h>

#include <memory>
#include <optional>
#include <string>

#include "cli/finetune_options.h"

namespace transformers::cli {

/// The token that fills short samples up, and by which a classifier finds the last one of a text.
int64_t padding_token(const PretrainedConfig& config);

/// Fills short samples up.
DataCollator collator_for(const PreTrainedModel& model);

/// Of --train-file or --train-ids, every sample read once. Warns of those in which nothing can be learned.
CheckedDataset training_data(const FinetuneOptions& options, const PreTrainedModel& model, const TrainingTask& task);

/// Of --eval-file, with the task's metrics, every sample read once; nullopt without one.
std::optional<Evaluation> evaluation_of(const FinetuneOptions& options, const PreTrainedModel& model,
                                        const TrainingTask& task);

}  // namespace transformers::cli
