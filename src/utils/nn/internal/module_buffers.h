#pragma once

#include <torch/nn/cloneable.h>

#include <string>

namespace transformers {

/// Stands in for a module class below.
struct BufferAccess;

}  // namespace transformers

namespace torch::nn {

/// The registered buffers are private to `Module` and its friend, the class template `Cloneable`.
template <>
class Cloneable<transformers::BufferAccess> {
 public:
  static OrderedDict<std::string, Tensor>& buffers(Module& module) { return module.buffers_; }
};

}  // namespace torch::nn
