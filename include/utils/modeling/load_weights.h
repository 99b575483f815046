#pragma once

#include <transformers/export.h>
#include <transformers/utils/files/model_folder.h>
#include <transformers/utils/modeling/load_options.h>
#include <transformers/utils/modeling/pretrained_model.h>

#include <memory>
#include <string>

namespace TRANSFORMERS_API transformers {

class Checkpoint;

/// A folder's weights, every file opened and checked; throws when they cannot be a model of that many layers.
std::shared_ptr<const Checkpoint> open_checkpoint(const ModelFolder& folder, const PretrainedConfig& config,
                                                  const LoadOptions& options);
/// What filling a model from these weights would meet; reads no tensor and changes nothing.
LoadReport match_weights(PreTrainedModel& model, const Checkpoint& checkpoint);
/// Throws, naming everything that is missing or mis-shaped, when the base model cannot be filled, and where a stored
/// tensor is no weight.
void check_fit(const LoadReport& report, const PreTrainedModel& model, const std::string& folder,
               bool ignore_mismatched_sizes = false);
/// Fills a model that was built on the meta device. Without a cast, parameters are the file's own pages. Leaves it in
/// eval mode. Throws as `check_fit` does.
LoadReport load_weights(PreTrainedModel& model, const std::shared_ptr<const Checkpoint>& checkpoint,
                        const ModelFolder& folder, const LoadOptions& options);

}  // namespace transformers
