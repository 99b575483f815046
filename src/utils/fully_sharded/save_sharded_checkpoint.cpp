#include <c10/util/Exception.h>
#include <transformers/utils/distributed/together.h>
#include <transformers/utils/files/save_transaction.h>

#include <algorithm>
#include <cstdio>
#include <iomanip>
#include <optional>
#include <random>
#include <regex>
#include <sstream>

#include "utils/distributed/internal/agreement.h"
#include "utils/files/internal/file_status.h"
#include "utils/fully_sharded/checkpoint_index.h"

namespace transformers {
namespace {

using Metadata = std::map<std::string, std::string>;

std::string random_id() {
  std::random_device device;
  std::ostringstream text;
  text << std::hex << std::setfill('0') << std::setw(8) << device() << std::setw(8) << device();
  return text.str();
}

/// The name differs from those of an earlier save, whose parts have to remain until the new index is written.
std::string part_name(const std::string& save_id, int64_t rank, int64_t ranks) {
  std::ostringstream name;
  name << std::setfill('0') << "part-" << save_id << "-" << std::setw(5) << rank + 1 << "-of-" << std::setw(5) << ranks
       << ".safetensors";
  return name.str();
}

/// An index of the slices that this rank holds.
CheckpointIndex own_index(const ShardedState& state, const std::string& file) {
  CheckpointIndex index;
  for (const auto& [name, tensor] : state) {
    TORCH_CHECK(tensor.local.defined(), "save_sharded_checkpoint: ", name, " is undefined");
    IndexEntry entry{.dtype = tensor.local.scalar_type(), .sizes = tensor.sizes, .dim = tensor.dim};
    TORCH_CHECK(tensor.dim >= 0 && tensor.dim < std::max<int64_t>(1, static_cast<int64_t>(tensor.sizes.size())),
                "save_sharded_checkpoint: ", name, " has no dimension ", tensor.dim);
    const IndexSlice slice{
        .file = file, .start = tensor.start, .length = tensor.sizes.empty() ? 1 : tensor.local.size(tensor.dim)};
    TORCH_CHECK(
        tensor.local.sizes() == entry.sizes_of(slice) && slice.start >= 0 && slice.length <= entry.full() - slice.start,
        "save_sharded_checkpoint: ", name, " ", tensor.local.sizes(), " from ", slice.start, " on is no part of ",
        c10::IntArrayRef(tensor.sizes));
    if (slice.length > 0) {
      entry.slices.push_back(slice);
    }
    index.tensors.emplace(name, std::move(entry));
  }
  return index;
}

/// Adds the slices of another rank; a slice that is listed already is not written twice.
void merge(const CheckpointIndex& other, int64_t rank, CheckpointIndex& merged) {
  for (const auto& [name, entry] : other.tensors) {
    const auto [known, is_new] = merged.tensors.try_emplace(name, entry);
    auto& [dtype, sizes, dim, slices] = known->second;
    TORCH_CHECK(dtype == entry.dtype && sizes == entry.sizes && dim == entry.dim, "save_sharded_checkpoint: ", name,
                " is ", entry.dtype, " ", c10::IntArrayRef(entry.sizes), " along dimension ", entry.dim, " on rank ",
                rank, ", ", dtype, " ", c10::IntArrayRef(sizes), " along dimension ", dim, " on ranks before");
    for (const auto& slice : is_new ? std::vector<IndexSlice>() : entry.slices) {
      const auto same = [&](const IndexSlice& own) { return own.start == slice.start && own.length == slice.length; };
      if (std::none_of(slices.begin(), slices.end(), same)) {
        slices.push_back(slice);
      }
    }
  }
}

/// An index of the slices of all ranks. Every rank computes the same index, or throws the same error.
CheckpointIndex merged_index(const ProcessGroup& group, const ShardedState& state, const std::string& save_id) {
  CheckpointIndex own;
  together(group, [&] { own = own_index(state, part_name(save_id, group.rank(), group.size())); });
  CheckpointIndex merged{.save_id = save_id};
  const auto texts = exchange_texts(group, index_text(own));
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    merge(parse_index(texts[rank], "rank " + std::to_string(rank), /*whole=*/false), static_cast<int64_t>(rank),
          merged);
  }
  for (auto& [name, entry] : merged.tensors) {
    std::sort(entry.slices.begin(), entry.slices.end(),
              [](const auto& first, const auto& second) { return first.start < second.start; });
    check_whole(name, entry, "save_sharded_checkpoint");
  }
  return merged;
}

/// Writes the slices that are assigned to this rank.
void write_part(const std::string& folder, const std::string& file, const ShardedState& state,
                const CheckpointIndex& index) {
  torch::OrderedDict<std::string, at::Tensor> tensors;
  for (const auto& [name, entry] : index.tensors) {
    for (const auto& slice : entry.slices) {
      if (slice.file == file) {
        tensors.insert(name, state.at(name).local);
      }
    }
  }
  if (!tensors.is_empty()) {
    save_safetensors(folder + "/" + file, tensors, {{"format", "pt"}, {kSaveId, index.save_id}});
  }
}

/// Commits the save: the new parts become valid, and the old ones are removed.
void write_index(SaveTransaction& save, const CheckpointIndex& index) {
  static const std::regex kPart(R"(part-[0-9a-f]{16}-\d{5}-of-\d{5}\.safetensors)");
  save.write(kShardedIndexFile, index_text(index));
  for (const auto& name : names_in_folder(save.folder())) {
    if (std::regex_match(name, kPart) && !name.starts_with("part-" + index.save_id)) {
      save.remove(name);
    }
  }
  save.commit();
}

}  // namespace

ShardedTensor whole_tensor(const at::Tensor& tensor) { return {.local = tensor, .sizes = tensor.sizes().vec()}; }

void save_sharded_checkpoint(const std::string& folder, const ProcessGroup& group, const ShardedState& state,
                             const Metadata& metadata) {
  const auto save_id = broadcast_text(group, random_id(), /*src=*/0);
  auto index = merged_index(group, state, save_id);
  index.metadata = metadata;
  const bool is_first = group.rank() == 0;
  std::optional<SaveTransaction> save;  // held until all ranks are done, so that no other process saves there
  together(group, [&] { is_first ? void(save.emplace(folder)) : void(); });
  const auto file = part_name(save_id, group.rank(), group.size());
  try {
    together(group, [&] { write_part(folder, file, state, index); });
  } catch (const c10::Error&) {
    std::remove((folder + "/" + file).c_str());  // the file may not exist
    throw;
  }
  // If this fails, either set of parts may be the valid one; the next save removes the other.
  together(group, [&] { is_first ? write_index(*save, index) : void(); });
}

}  // namespace transformers
