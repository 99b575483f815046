#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>
#include <transformers/export.h>
#include <transformers/utils/modeling/attention.h>
#include <transformers/utils/nn/state_dict.h>
#include <transformers/utils/placement/device_map.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// What loading a folder found. Tensors have the names that the model gives them.
struct LoadReport : IncompatibleKeys {
  std::vector<std::string> ignored;      // legacy buffers in the file, which the model computes itself
  std::vector<std::string> initialized;  // missing from the file, so newly initialized
  /// Why stored tensors cannot be used as weights, one sentence each: they are integers, or quantised codes with scales
  /// beside them.
  std::vector<std::string> unreadable;
};

struct LoadOptions {
  /// Unset: the dtype in config.json, else that of the weights. Weights are not copied if they are stored in this
  /// dtype.
  std::optional<c10::ScalarType> dtype{};
  c10::Device device = c10::kCPU;
  AttnImplementation attn_implementation = AttnImplementation::kAuto;
  /// Newly initialize tensors of another shape instead of throwing.
  bool ignore_mismatched_sizes = false;
  /// Number of classes of a classification head; overrides config.json.
  std::optional<int64_t> num_labels{};
  /// The variant in the files' names: `model.<variant>.safetensors` and so on.
  std::string variant{};
  /// If not null, receives the report.
  LoadReport* report = nullptr;
  /// Several places instead of `device`: "auto", another strategy, or {{"model", 0}, {"lm_head", "cpu"}}. Weights on
  /// the disk are read from the safetensors files when their layer runs and dropped afterwards. If the model also has
  /// GPUs, weights on the CPU are copied to the first GPU when their layer runs. Neither can be trained. A placed model
  /// can still be saved, but no longer moved, copied, pruned or resized.
  DeviceMapOption device_map{};
  /// Limits of each place where `device_map` is a strategy; unset: the free memory.
  std::optional<MaxMemory> max_memory{};
};

}  // namespace transformers
