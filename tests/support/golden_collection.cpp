#include "support/golden_collection.h"

namespace transformers::testing {

at::Tensor GoldenCase::tensor(const std::string& wanted) const {
  const auto entry = tensors.find(wanted);
  return entry == tensors.end() ? at::Tensor() : entry->second;
}

std::vector<GoldenCase> golden_cases(const std::string& folder, const std::string& name) {
  const Golden golden(golden_path(folder, name));
  std::vector<GoldenCase> cases;
  const auto descriptions = nlohmann::json::parse(golden.metadata().at("cases"));
  for (const auto& [label, arguments] : descriptions.items()) {
    cases.push_back({label, arguments, golden.all(label + ".")});
  }
  return cases;
}

}  // namespace transformers::testing
