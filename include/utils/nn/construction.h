#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>
#include <transformers/export.h>

namespace TRANSFORMERS_API transformers {

/// How layers that this thread constructs create their parameters.
struct ConstructionOptions {
  c10::ScalarType dtype = c10::kFloat;
  /// On `meta`, parameters have shapes but no memory; `assign_tensor` of state_dict.h fills them later.
  c10::Device device = c10::kCPU;
  /// False leaves parameters uninitialised, for callers that fill all of them.
  bool initialize = true;
};

const ConstructionOptions& construction_options();

/// Sets the construction options of this thread for its lifetime. The counterpart of Python's `torch.device(...)`,
/// `torch.set_default_dtype` and HF's `no_init_weights`, without changing global state.
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
