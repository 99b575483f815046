#pragma once

#include <transformers/utils/modeling/pretrained_model.h>
#include <transformers/utils/training/dataset_check.h>
#include <transformers/utils/training/evaluation.h>

#include <memory>
#include <optional>
#include <string>

#include "cli/finetune_options.h"

namespace transformers::cli {

/// The token that pads short samples, and by which a classifier finds the last token of a text.
int64_t padding_token(const PretrainedConfig& config);

/// A collator that pads short samples.
DataCollator collator_for(const PreTrainedModel& model);

/// The data of --train-file or --train-ids. Every sample is read once; warns about samples in which nothing can be
/// learned.
CheckedDataset training_data(const FinetuneOptions& options, const PreTrainedModel& model, const TrainingTask& task);

/// The evaluation on --eval-file with the task's metrics; every sample is read once. nullopt without the option.
std::optional<Evaluation> evaluation_of(const FinetuneOptions& options, const PreTrainedModel& model,
                                        const TrainingTask& task);

}  // namespace transformers::cli
