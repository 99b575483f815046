// Mirrors configuration_utils.py, transformers 5.23.0.
#include <c10/util/Exception.h>
#include <transformers/utils/configuration/configuration_utils.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "utils/text/named_values.h"

namespace transformers {
namespace {

constexpr std::array<NamedValue<c10::ScalarType>, 7> kDtypes{{{"float32", c10::kFloat},
                                                              {"bfloat16", c10::kBFloat16},
                                                              {"float16", c10::kHalf},
                                                              {"float64", c10::kDouble},
                                                              {"float", c10::kFloat},
                                                              {"half", c10::kHalf},
                                                              {"double", c10::kDouble}}};

}  // namespace

c10::ScalarType dtype_from_name(std::string_view name) {
  return value_of_name(kDtypes, "dtype", name.starts_with("torch.") ? name.substr(6) : name);
}

std::string dtype_name(c10::ScalarType dtype) {
  TORCH_CHECK(std::ranges::find(kDtypes, dtype, &NamedValue<c10::ScalarType>::second) != kDtypes.end(),
              "a model cannot be of dtype ", dtype);
  return name_of_value(kDtypes, dtype);
}

void PretrainedConfig::set_num_labels(int64_t num_labels) {
  TORCH_CHECK(num_labels >= 1 && num_labels <= kMostLabels, "num_labels must be in [1, ", kMostLabels, "], got ",
              num_labels);
  if (num_labels == this->num_labels()) {
    return;
  }
  id2label.clear();
  for (int64_t id = 0; id < num_labels; ++id) {
    id2label[id] = "LABEL_" + std::to_string(id);
  }
}

double PretrainedConfig::classification_dropout() const {
  return classifier_dropout ? *classifier_dropout : hidden_dropout.value_or(0.1);
}

void PretrainedConfig::validate() const {
  check_size("vocab_size", vocab_size);
  check_probability("initializer_range", initializer_range);
  check_probability("classifier_dropout", classification_dropout());
  TORCH_CHECK(pad_token_id.value_or(0) >= 0, "pad_token_id must not be negative, got ", pad_token_id.value_or(0));
  TORCH_CHECK(num_labels() > 1 || problem_type != ProblemType::kSingleLabelClassification,
              "problem_type single_label_classification needs at least 2 labels, got ", num_labels());
}

void check_size(const char* field, int64_t value) {
  TORCH_CHECK(value >= 1 && value <= std::numeric_limits<int32_t>::max(), field, " must be in [1, 2^31), got ", value);
}

void check_parameter_bytes(const std::vector<std::array<int64_t, 3>>& shapes) {
  double bytes = 0;
  for (const auto& [layers, rows, columns] : shapes) {
    bytes += 4.0 * static_cast<double>(layers) * static_cast<double>(rows) * static_cast<double>(columns);
  }
  TORCH_CHECK(bytes < 9.2e18, "the sizes ask for weights of ", bytes, " bytes, 2^63 is the limit");
}

void check_probability(const char* field, double value) {
  TORCH_CHECK(value >= 0 && value <= 1, field, " must be in [0, 1], got ", value);
}

}  // namespace transformers
