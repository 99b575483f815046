// Shard names, their filling and the index follow transformers 5.23.0 and huggingface_hub's
// split_state_dict_into_shards_factory. Two views of one storage are counted by what is written for them, where the
// original counts the storage.
#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <transformers/utils/files/save_transaction.h>
#include <transformers/utils/io/checkpoint.h>

#include <algorithm>
#include <filesystem>
#include <iomanip>
#include <regex>
#include <set>
#include <sstream>
#include <tuple>

#include "utils/io/internal/safetensors_writer.h"
#include "utils/io/shard_index.h"

namespace transformers {
namespace {

constexpr const char* kSingleName = "model.safetensors";
constexpr const char* kIndexName = "model.safetensors.index.json";

using Tensors = torch::OrderedDict<std::string, at::Tensor>;
using WeightMap = std::map<std::string, std::string>;

/// Tensors that go into one file because they share a storage, in the order of the state.
struct Group {
  std::vector<std::string> names;
  int64_t bytes = 0;
};

/// Tensors with equal identities have the same elements.
auto identity(const at::Tensor& tensor) {
  return std::tuple(tensor.const_data_ptr(), tensor.scalar_type(), tensor.sizes().vec(), tensor.strides().vec(),
                    tensor.is_conj(), tensor.is_neg());
}

std::vector<Group> group_by_storage(const Tensors& state) {
  std::vector<Group> groups;
  std::map<const void*, size_t> by_storage;
  std::set<decltype(identity(at::Tensor()))> seen;
  for (const auto& item : state) {
    const auto& tensor = item.value();
    // The writer names a tensor that it cannot write; here such a tensor only must not do harm.
    const bool has_data = tensor.defined() && tensor.has_storage() && tensor.numel() > 0;
    if (has_data && !seen.insert(identity(tensor)).second) {
      continue;
    }
    const void* storage = has_data ? tensor.storage().unsafeGetStorageImpl() : static_cast<const void*>(&item);
    const auto [entry, is_new] = by_storage.emplace(storage, groups.size());
    if (is_new) {
      groups.emplace_back();
    }
    auto& group = groups[entry->second];
    group.names.push_back(item.key());
    group.bytes += has_data ? static_cast<int64_t>(tensor.nbytes()) : 0;
  }
  return groups;
}

std::vector<Group> fill_shards(const std::vector<Group>& groups, int64_t max_bytes) {
  std::vector<Group> shards;
  Group current;
  for (const auto& group : groups) {
    if (group.bytes > max_bytes) {
      shards.push_back(group);
      continue;
    }
    if (current.bytes + group.bytes > max_bytes) {
      shards.push_back(std::exchange(current, {}));
    }
    current.names.insert(current.names.end(), group.names.begin(), group.names.end());
    current.bytes += group.bytes;
  }
  if (!current.names.empty() || shards.empty()) {
    shards.push_back(std::move(current));
  }
  return shards;
}

std::string shard_name(size_t number, size_t count) {
  std::ostringstream name;
  name << std::setfill('0') << "model-" << std::setw(5) << number << "-of-" << std::setw(5) << count << ".safetensors";
  return name.str();
}

Tensors select(const Tensors& state, const std::vector<std::string>& names) {
  Tensors selected;
  for (const auto& name : names) {
    selected.insert(name, state[name]);
  }
  return selected;
}

/// Weight files of an earlier save that the new save does not use.
void remove_stale(SaveTransaction& save, const std::set<std::string>& new_names) {
  static const std::regex kWeights(R"(model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?)");
  std::error_code error;
  for (std::filesystem::directory_iterator entry(save.folder(), error), end; !error && entry != end;
       entry.increment(error)) {
    const auto name = entry->path().filename().string();
    if (std::regex_match(name, kWeights) && !new_names.contains(name)) {
      save.remove(name);
    }
  }
}

}  // namespace

void add_checkpoint_files(SaveTransaction& save, size_t count, const std::function<Tensors(size_t)>& tensors_of,
                          const std::map<std::string, std::string>& metadata) {
  std::set<std::string> new_names;
  for (size_t i = 0; i < count; ++i) {
    new_names.insert(count == 1 ? kSingleName : shard_name(i + 1, count));
  }

  WeightMap weight_map;
  int64_t bytes = 0, parameters = 0;
  auto name = new_names.begin();
  for (size_t i = 0; i < count; ++i, ++name) {
    const auto tensors = tensors_of(i);
    save.write(*name, [&](const ByteSink& sink) { write_safetensors(sink, tensors, metadata); });
    for (const auto& item : tensors) {
      weight_map.emplace(item.key(), *name);
      parameters += item.value().numel();
      bytes += static_cast<int64_t>(item.value().nbytes());
    }
  }
  if (count > 1) {
    save.write(kIndexName, shard_index_text(weight_map, bytes, parameters));
    new_names.insert(kIndexName);
  }
  remove_stale(save, new_names);
}

void add_checkpoint(SaveTransaction& save, const Tensors& state, const SaveCheckpointOptions& options) {
  TORCH_CHECK(options.max_shard_size > 0, "max_shard_size must be positive, found ", options.max_shard_size);
  const auto shards = fill_shards(group_by_storage(state), options.max_shard_size);
  add_checkpoint_files(
      save, shards.size(), [&](size_t i) { return select(state, shards[i].names); }, options.metadata);
}

void save_checkpoint(const std::string& folder, const Tensors& state, const SaveCheckpointOptions& options) {
  SaveTransaction save(folder);
  add_checkpoint(save, state, options);
  save.commit();
}

}  // namespace transformers
