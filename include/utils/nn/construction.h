#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>
#include <transformers/export.h>

namespace TRANSFORMERS_API transformers {

/// How layers built from now on, on this thread, create their parameters.
struct ConstructionOptions {
  c10::ScalarType dtype = c10::kFloat;
  /// `meta` builds shapes without memory; `assign_tensor` of state_dict.h fills them later.
  c10::Device device = c10::kCPU;
  /// False leaves parameters uninitialised, for a caller that fills every one of them.
  bool initialize = true;
};

const ConstructionOptions& construction_options();

/// Sets the construction options of this thread for its lifetime. What `torch.device(...)`, `torch.set_default_dtype`
/// and HF's `no_init_weights` do as Python contexts; here nothing global changes.
class ConstructionGuard {
 public:
  explicit ConstructionGuard(ConstructionOptions options);
  ~ConstructionGuard();
  ConstructionGuard(const ConstructionGuard&) = delete;
  ConstructionGuard& operator=(const ConstructionGuard&) = delete;

 private:
  ConstructionOptions previous_;
};

}  // namespace transformers
