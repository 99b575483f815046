#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>
#include <transformers/export.h>

namespace TRANSFORMERS_API transformers {

/// Enables mixed precision for its lifetime: matmuls run in `dtype`, operations that need the range in fp32. Mirrors
/// Python's `torch.autocast`. Guards may be nested, also to disable autocast temporarily.
class AutocastGuard {
 public:
  AutocastGuard(c10::DeviceType device, c10::ScalarType dtype, bool enabled = true);
  ~AutocastGuard();
  AutocastGuard(const AutocastGuard&) = delete;
  AutocastGuard& operator=(const AutocastGuard&) = delete;

 private:
  c10::DeviceType device_;
  c10::ScalarType previous_dtype_;
  bool previous_enabled_;
};

}  // namespace transformers
