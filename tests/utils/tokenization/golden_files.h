#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace transformers::testing {

/// Path under tests/golden/tokenization, written by scripts/goldens/make_tokenizer_goldens.py.
std::string golden_path(const std::string& relative);
nlohmann::json read_golden(const std::string& relative);
std::vector<std::string> corpus();

/// Copies the tokenizer files of a golden folder, so that a test can change one of them.
void copy_golden(const std::string& kind, const std::string& target);

}  // namespace transformers::testing
