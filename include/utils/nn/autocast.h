#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>
#include <transformers/export.h>

namespace TRANSFORMERS_API transformers {

/// Mixed precision while it lives: matmuls in `dtype`, what needs range in fp32; `torch.autocast` of Python. Guards
/// may be nested, also to switch it off for a while.
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
