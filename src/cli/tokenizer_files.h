#pragma once

#include <string>

namespace transformers::cli {

/// Copies what belongs to a model beside its config and weights into another folder.
void copy_tokenizer(const std::string& from, const std::string& to);

}  // namespace transformers::cli
