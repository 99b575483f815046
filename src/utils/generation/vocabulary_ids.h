#pragma once

#include <transformers/utils/configuration/configuration_utils.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <vector>

namespace transformers {

/// Those of the ids that are in the vocabulary; others can never occur.
inline std::vector<int64_t> ids_of_vocabulary(const std::vector<int64_t>& ids, const PretrainedConfig& config) {
  std::vector<int64_t> found;
  std::ranges::copy_if(ids, std::back_inserter(found), [&](int64_t id) { return id >= 0 && id < config.vocab_size; });
  return found;
}

}  // namespace transformers
