#pragma once

#include <transformers/export.h>
#include <transformers/utils/data/data_collator.h>
#include <transformers/utils/training/training_task.h>

#include <functional>
#include <memory>
#include <string>

namespace TRANSFORMERS_API transformers {

/// What going through a dataset once has found.
struct CheckedDataset {
  /// The samples in which something counts, in their order.
  std::shared_ptr<const Dataset> dataset{};
  /// Samples in which no label counts, e.g. because what was to be learned lies behind the longest length.
  int64_t left_out = 0;
  /// Of every tensor of the samples left: equal for equal data.
  std::string checksum{};
};

/// Looks at a sample; what it throws is prefixed with the sample's number.
using SampleCheck = std::function<void(const Batch& sample)>;

/// Reads every sample once, so that what is wrong with one is an error now and not in the middle of a training. Throws
/// when nothing counts in any of them.
CheckedDataset check_dataset(std::shared_ptr<const Dataset> dataset, const DataCollator& collator,
                             const TrainingTask& task, const SampleCheck& check = {});

}  // namespace transformers
