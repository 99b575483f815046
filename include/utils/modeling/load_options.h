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

/// What loading a folder met, by the model's own names.
struct LoadReport : IncompatibleKeys {
  std::vector<std::string> ignored;      // legacy buffers in the file that a model computes itself
  std::vector<std::string> initialized;  // missing from the file, so newly initialized
  /// Why stored tensors are no weights, a sentence each: whole numbers, codes whose scales lie beside them.
  std::vector<std::string> unreadable;
};

struct LoadOptions {
  /// Unset: the dtype config.json states, else that of the weights. The same dtype as stored costs no copy.
  std::optional<c10::ScalarType> dtype{};
  c10::Device device = c10::kCPU;
  AttnImplementation attn_implementation = AttnImplementation::kAuto;
  /// Newly initialize tensors of another shape instead of throwing.
  bool ignore_mismatched_sizes = false;
  /// Classes of a classification head, in place of what config.json says.
  std::optional<int64_t> num_labels{};
  /// The variant in the files' names: `model.<variant>.safetensors` and so on.
  std::string variant{};
  /// Filled when given.
  LoadReport* report = nullptr;
  /// Several places instead of `device`: "auto", another strategy, or {{"model", 0}, {"lm_head", "cpu"}}. Weights on
  /// the disk are read from the safetensors files when their layer runs and dropped afterwards; weights on the CPU of a
  /// model that has GPUs wait there and run on the first GPU. Neither can be trained. A placed model can
  /// still be saved, but no longer moved, copied, pruned or resized.
  DeviceMapOption device_map{};
  /// What each place may hold where `device_map` is a strategy; unset: the memory that is free.
  std::optional<MaxMemory> max_memory{};
};

}  // namespace transformers
