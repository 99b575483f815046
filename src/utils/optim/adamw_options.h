#pragma once

#include <torch/optim/adamw.h>

namespace transformers {

/// The options themselves; throws, naming the optimizer, when one cannot be.
const torch::optim::AdamWOptions& checked_adamw_options(const torch::optim::AdamWOptions& options,
                                                        const char* optimizer);

}  // namespace transformers
