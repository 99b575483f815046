#pragma once

#include <transformers/utils/modeling/causal_lm.h>

#include <memory>

#include "support/golden_collection.h"

namespace transformers::testing {

/// The model of a golden's case "start": its config, and its tensors under `weights.`; in eval mode.
std::shared_ptr<CausalLM> model_of(const GoldenCase& start);

}  // namespace transformers::testing
