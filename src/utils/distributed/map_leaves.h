#pragma once

#include <transformers/utils/distributed/container_utils.h>

namespace transformers {

/// The same container with every leaf replaced by what `leaf` gives for it; keys of maps too when `with_keys` is set.
Value map_leaves(const Value& root, bool with_keys, const std::function<Value(const Value&)>& leaf);

}  // namespace transformers
