#pragma once

#include <torch/nn/cloneable.h>

#include <string>

namespace transformers {

/// A placeholder for a module class in the specialisation below.
struct BufferAccess;

}  // namespace transformers

namespace torch::nn {

/// Registered buffers are accessible only to `Module` and its friend, the class template `Cloneable`.
template <>
class Cloneable<transformers::BufferAccess> {
 public:
  static OrderedDict<std::string, Tensor>& buffers(Module& module) { return module.buffers_; }
};

}  // namespace torch::nn
