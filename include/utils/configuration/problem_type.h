#pragma once

#include <transformers/export.h>

namespace TRANSFORMERS_API transformers {

/// What a sequence classifier predicts, the values of `problem_type` in config.json.
enum class ProblemType { kRegression, kSingleLabelClassification, kMultiLabelClassification };

}  // namespace transformers
