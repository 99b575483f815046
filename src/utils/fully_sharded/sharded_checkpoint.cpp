// Reads sharded checkpoints. Opening one checks that all parts belong to the save of the index and hold what it lists;
// values are read slice by slice when they are asked for.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <transformers/utils/distributed/together.h>

#include <algorithm>
#include <sstream>

#include "utils/distributed/internal/agreement.h"
#include "utils/files/internal/save_journal.h"
#include "utils/fully_sharded/checkpoint_index.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

const IndexEntry& found(const CheckpointIndex& index, const std::string& name, const std::string& folder) {
  const auto entry = index.tensors.find(name);
  TORCH_CHECK(entry != index.tensors.end(), printable(folder), ": the checkpoint holds no ", printable(name));
  return entry->second;
}

void check_part(const SafetensorsFile& file, const CheckpointIndex& index) {
  const auto id = file.metadata().find(kSaveId);
  TORCH_CHECK(id != file.metadata().end() && id->second == index.save_id, printable(file.path()),
              ": this part is of another save than ", kShardedIndexFile, ": ",
              id == file.metadata().end() ? "none" : printable(id->second), ", expected ", printable(index.save_id));
}

void check_slice(const SafetensorsFile& file, const std::string& name, const IndexEntry& entry,
                 const IndexSlice& slice) {
  TORCH_CHECK(file.contains(name), printable(file.path()), ": tensor ", printable(name), " is missing");
  const auto part = file.tensor(name);  // a view of the file; nothing is read yet
  const auto sizes = entry.sizes_of(slice);
  TORCH_CHECK(part.scalar_type() == entry.dtype && part.sizes() == sizes, printable(file.path()), ": tensor ",
              printable(name), " must be ", entry.dtype, " ", c10::IntArrayRef(sizes), " as the index says, found ",
              part.scalar_type(), " ", part.sizes());
}

/// The reason why a state cannot be filled from a checkpoint; empty if it can.
std::string complaint(const ShardedCheckpoint& checkpoint, const ShardedState& into) {
  std::ostringstream text;
  for (const auto& [name, tensor] : into) {
    if (!checkpoint.contains(name)) {
      text << "; missing: " << printable(name);
    } else if (checkpoint.sizes(name) != tensor.sizes) {
      text << "; " << printable(name) << " is " << c10::IntArrayRef(checkpoint.sizes(name)) << ", expected "
           << c10::IntArrayRef(tensor.sizes);
    }
  }
  const auto found = text.str();
  return found.empty() ? "" : printable(checkpoint.folder()) + ": the checkpoint does not fit" + found;
}

void copy_slices(const ShardedCheckpoint& checkpoint, const ShardedState& into) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : into) {
    auto local = tensor.local;
    if (local.dim() == 0) {
      local.copy_(checkpoint.tensor(name));
    } else if (local.numel() > 0) {
      local.copy_(checkpoint.slice(name, tensor.dim, tensor.start, local.size(tensor.dim)));
    }
  }
}

}  // namespace

bool ShardedCheckpoint::exists(const std::string& folder) { return file_exists(folder + "/" + kShardedIndexFile); }

ShardedCheckpoint::ShardedCheckpoint(const std::string& folder) : folder_(folder) { open(); }

ShardedCheckpoint::ShardedCheckpoint(const std::string& folder, const ProcessGroup& group) : folder_(folder) {
  together(group, [&] { open(); });
}

void ShardedCheckpoint::open() {
  index_ = std::make_shared<const CheckpointIndex>(read_index(folder_));
  for (const auto& [name, entry] : index_->tensors) {
    for (const auto& slice : entry.slices) {
      auto& file = files_[slice.file];
      if (!file) {
        file = std::make_unique<SafetensorsFile>(folder_ + "/" + slice.file);
        check_part(*file, *index_);
      }
      check_slice(*file, name, entry, slice);
    }
  }
}

const std::map<std::string, std::string>& ShardedCheckpoint::metadata() const { return index_->metadata; }

std::vector<std::string> ShardedCheckpoint::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : index_->tensors) {
    names.push_back(name);
  }
  return names;
}

bool ShardedCheckpoint::contains(const std::string& name) const { return index_->tensors.contains(name); }

const std::vector<int64_t>& ShardedCheckpoint::sizes(const std::string& name) const {
  return found(*index_, name, folder_).sizes;
}

c10::ScalarType ShardedCheckpoint::dtype(const std::string& name) const { return found(*index_, name, folder_).dtype; }

at::Tensor ShardedCheckpoint::tensor(const std::string& name) const {
  const auto& entry = found(*index_, name, folder_);
  if (entry.sizes.empty()) {
    return files_.at(entry.slices.front().file)->tensor(name).clone();
  }
  return slice(name, entry.dim, 0, entry.full());
}

at::Tensor ShardedCheckpoint::slice(const std::string& name, int64_t dim, int64_t start, int64_t length) const {
  const auto& entry = found(*index_, name, folder_);
  TORCH_CHECK(dim >= 0 && dim < static_cast<int64_t>(entry.sizes.size()), printable(name), " has no dimension ", dim);
  const auto size = entry.sizes[static_cast<size_t>(dim)];
  TORCH_CHECK(start >= 0 && length >= 0 && length <= size - start, printable(name), ": entries [", start, ", ",
              start + length, ") are not within the ", size, " of dimension ", dim);
  auto sizes = entry.sizes;
  sizes[static_cast<size_t>(dim)] = length;
  auto result = at::empty(sizes, at::TensorOptions(entry.dtype));
  for (const auto& part : entry.slices) {
    // The part is cut along one dimension, and a slice is requested along a dimension that may be another.
    const bool along_cut = dim == entry.dim;
    const auto begin = along_cut ? std::max(start, part.start) : start;
    const auto end = along_cut ? std::min(start + length, part.start + part.length) : start + length;
    if (begin >= end) {
      continue;
    }
    const auto source =
        files_.at(part.file)->tensor(name).narrow(dim, begin - (along_cut ? part.start : 0), end - begin);
    auto target = result.narrow(dim, begin - start, end - begin);
    (along_cut ? target : target.narrow(entry.dim, part.start, part.length)).copy_(source);
  }
  return result;
}

void load_sharded_checkpoint(const ShardedCheckpoint& checkpoint, const ShardedState& into) {
  const auto found = complaint(checkpoint, into);
  TORCH_CHECK(found.empty(), found);
  copy_slices(checkpoint, into);
}

void load_sharded_checkpoint(const ShardedCheckpoint& checkpoint, const ProcessGroup& group, const ShardedState& into) {
  agree(group, complaint(checkpoint, into));
  together(group, [&] { copy_slices(checkpoint, into); });
}

}  // namespace transformers
