#pragma once

#include <transformers/export.h>
#include <transformers/utils/data/data_collator.h>
#include <transformers/utils/training/training_task.h>

#include <functional>
#include <memory>
#include <string>

namespace TRANSFORMERS_API transformers {

/// What reading a dataset once has found.
struct CheckedDataset {
  /// The samples with at least one label that counts, in their order.
  std::shared_ptr<const Dataset> dataset{};
  /// Number of samples in which no label counts, e.g. because truncation removed everything that was to be learned.
  int64_t left_out = 0;
  /// Checksum of every tensor of the remaining samples: equal for equal data.
  std::string checksum{};
};

/// Checks a sample; its errors are prefixed with the sample's number.
using SampleCheck = std::function<void(const Batch& sample)>;

/// Reads every sample once, so that errors in the data appear now and not in the middle of a training run. Throws when
/// no label counts in any sample.
CheckedDataset check_dataset(std::shared_ptr<const Dataset> dataset, const DataCollator& collator,
                             const TrainingTask& task, const SampleCheck& check = {});

}  // namespace transformers
