#pragma once

#include <string>

#include "support/golden.h"

namespace transformers::testing {

/// Loads the golden's model from a folder by the auto classes, runs its calls and compares every output, the cache and
/// every gradient with what transformers gave on the CPU. Failures are reported to GoogleTest.
void expect_model_matches(const Golden& golden, at::Device device = at::kCPU);

}  // namespace transformers::testing
