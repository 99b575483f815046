#pragma once

#include <transformers/utils/fully_sharded/fully_sharded.h>

namespace transformers::testing {

/// What the rank is to hold of a tensor of the whole model.
inline at::Tensor own_rows(const at::Tensor& whole, const ShardedParameter& own) {
  return whole.narrow(0, own.start, own.parameter.size(0));
}

}  // namespace transformers::testing
