#pragma once

#include <transformers/utils/distributed/container_utils.h>

namespace transformers {

/// The container with every leaf replaced by the result of `leaf`; also the keys of maps if `with_keys` is set.
Value map_leaves(const Value& root, bool with_keys, const std::function<Value(const Value&)>& leaf);

}  // namespace transformers
