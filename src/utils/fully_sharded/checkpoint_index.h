#pragma once

#include <transformers/utils/fully_sharded/sharded_checkpoint.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace transformers {

inline constexpr const char* kShardedIndexFile = "sharded_checkpoint.index.json";
inline constexpr const char* kSaveId = "save_id";  // in the index and in the metadata of every part

struct IndexSlice {
  std::string file{};
  int64_t start = 0, length = 0;
};

struct IndexEntry {
  c10::ScalarType dtype = c10::ScalarType::Undefined;
  std::vector<int64_t> sizes{};
  int64_t dim = 0;
  std::vector<IndexSlice> slices{};  // in order, making up the dimension

  /// The size of the dimension that is split; a scalar counts as one entry.
  int64_t full() const { return sizes.empty() ? 1 : sizes[static_cast<size_t>(dim)]; }
  std::vector<int64_t> sizes_of(const IndexSlice& slice) const;
};

/// The content of sharded_checkpoint.index.json.
struct CheckpointIndex {
  std::string save_id{};
  std::map<std::string, std::string> metadata{};
  std::map<std::string, IndexEntry> tensors{};
};

std::string index_text(const CheckpointIndex& index);
/// Checks every rule of the index except those that need the files; without `whole`, also not that the slices make up
/// their tensors. `source` names the index in errors.
CheckpointIndex parse_index(std::string_view text, const std::string& source, bool whole = true);
CheckpointIndex read_index(const std::string& folder);

/// Throws unless the slices, in order, make up the dimension of the tensor.
void check_whole(const std::string& name, const IndexEntry& entry, const std::string& source);

}  // namespace transformers
