#pragma once

#include <transformers/utils/configuration/configuration_utils.h>
#include <transformers/utils/modeling/modeling_outputs.h>

#include <string>

#include "cli/task.h"

namespace transformers::cli {

/// The tensors of an input file as the arguments of a forward.
struct ForwardInputs {
  ModelInputs inputs;
  at::Tensor labels, start_positions, end_positions;

  bool has_labels() const { return labels.defined() || (start_positions.defined() && end_positions.defined()); }
};

/// Throws unless every value is in [low, high); `where` begins the message. ids: on the CPU.
void check_ids(const std::string& where, const at::Tensor& ids, int64_t low, int64_t high);

/// Reads a file and checks it before the model runs: names of arguments, dtypes, shapes, ranges. `dtype` and `device`
/// are the model's.
ForwardInputs read_forward_inputs(const std::string& path, Task task, const PretrainedConfig& config,
                                  c10::ScalarType dtype, c10::Device device);

}  // namespace transformers::cli
