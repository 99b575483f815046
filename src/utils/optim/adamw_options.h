#pragma once

#include <torch/optim/adamw.h>

namespace transformers {

/// Returns the options. Throws, naming the optimizer, when one of them is out of range.
const torch::optim::AdamWOptions& checked_adamw_options(const torch::optim::AdamWOptions& options,
                                                        const char* optimizer);

}  // namespace transformers
