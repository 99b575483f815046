#pragma once

#include <transformers/export.h>
#include <transformers/utils/files/model_folder.h>
#include <transformers/utils/modeling/load_options.h>
#include <transformers/utils/modeling/pretrained_model.h>

#include <memory>
#include <string>

namespace TRANSFORMERS_API transformers {

class Checkpoint;

/// Opens and checks every file of a folder's weights. Throws when they cannot be those of a model with that many
/// layers.
std::shared_ptr<const Checkpoint> open_checkpoint(const ModelFolder& folder, const PretrainedConfig& config,
                                                  const LoadOptions& options);
/// The report that loading these weights into a model would give. Reads no tensor and changes nothing.
LoadReport match_weights(PreTrainedModel& model, const Checkpoint& checkpoint);
/// Throws, naming everything that is missing or mis-shaped, when the base model cannot be filled, and when a stored
/// tensor cannot be used as a weight.
void check_fit(const LoadReport& report, const PreTrainedModel& model, const std::string& folder,
               bool ignore_mismatched_sizes = false);
/// Fills a model that was built on the meta device. Without a cast, the parameters are memory-mapped from the file.
/// Leaves the model in eval mode. Throws as `check_fit` does.
LoadReport load_weights(PreTrainedModel& model, const std::shared_ptr<const Checkpoint>& checkpoint,
                        const ModelFolder& folder, const LoadOptions& options);

}  // namespace transformers
