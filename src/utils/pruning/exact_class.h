#pragma once

#include <torch/nn/module.h>

#include <typeinfo>

namespace transformers {

/// Whether the module has exactly one of these classes. A derived class may have another forward.
template <typename... Classes>
bool is_exactly(const torch::nn::Module* module) {
  return module != nullptr && ((typeid(*module) == typeid(Classes)) || ...);
}

}  // namespace transformers
