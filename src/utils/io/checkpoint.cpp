// Finds and opens the weights of a Hugging Face folder in the order of precedence of kWeightsNames. An index is
// compared with the tensors of its shards before the first of them is used.
#include <c10/util/Exception.h>
#include <transformers/utils/io/checkpoint.h>
#include <transformers/utils/io/safetensors.h>
#include <transformers/utils/io/torch_checkpoint.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <set>

#include "utils/files/internal/file_name.h"
#include "utils/files/internal/save_journal.h"
#include "utils/io/shard_index.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

struct WeightsName {
  std::string_view stem;
  std::string_view suffix;  // the name of a variant is inserted before its last part
  bool is_index;

  std::string with(const std::string& inserted) const { return std::string(stem).append(inserted).append(suffix); }
};

constexpr std::array kWeightsNames{
    WeightsName{"model", ".safetensors", false},
    WeightsName{"model.safetensors.index", ".json", true},
    WeightsName{"pytorch_model", ".bin", false},
    WeightsName{"pytorch_model.bin.index", ".json", true},
};

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) {
    text += (text.empty() ? "" : ", ") + printable(name);
  }
  return text;
}

bool is_torch_file(const std::string& name) { return name.ends_with(".bin") || name.ends_with(".pt"); }

void check_all_exist(const std::string& folder, const std::set<std::string>& files, const std::string& index_path) {
  std::vector<std::string> missing;
  for (const auto& file : files) {
    // A broken link is opened later, so that the error has the system's own words.
    if (!file_exists(std::string(folder).append("/").append(file))) {
      missing.push_back(file);
    }
  }
  TORCH_CHECK(missing.empty(), printable(index_path), ": the folder lacks files that it lists: ", joined(missing));
}

void warn_about_case(const std::set<std::string>& names, const std::string& what) {
  std::map<std::string, std::string> folded;
  for (const auto& name : names) {
    std::string key;
    std::ranges::transform(name, std::back_inserter(key),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const auto [other, is_new] = folded.emplace(key, name);
    if (!is_new) {
      TORCH_WARN(what, " ", printable(other->second), " and ", printable(name), " differ only in case");
    }
  }
}

/// The file that determines the weights.
const WeightsName* choose_weights(const std::string& folder, const std::string& inserted) {
  const auto* chosen = std::ranges::find_if(kWeightsNames, [&](const WeightsName& candidate) {
    // A broken link counts: opening it reports the error.
    return file_exists(std::string(folder).append("/").append(candidate.with(inserted)));
  });
  return chosen == kWeightsNames.end() ? nullptr : chosen;
}

std::string all_weights_names(const std::string& inserted) {
  std::vector<std::string> names;
  for (const auto& candidate : kWeightsNames) {
    names.push_back(candidate.with(inserted));
  }
  return joined(names);
}

}  // namespace

Checkpoint::Checkpoint(const ModelFolder& folder, const std::string& variant) : folder_(folder.path()) {
  std::error_code ignored;
  TORCH_CHECK(std::filesystem::is_directory(folder_, ignored), printable(folder_), ": expected a folder with weights");
  const auto inserted = variant.empty() ? "" : "." + variant;
  check_plain_file_name("model" + inserted, "variant");
  folder.read_one_save([&] { open(inserted); });
}

void Checkpoint::open(const std::string& inserted) {
  clear();
  const auto* chosen = choose_weights(folder_, inserted);
  TORCH_CHECK(chosen != nullptr, printable(folder_), ": holds no weights; expected one of ",
              all_weights_names(inserted));
  chosen->is_index ? open_sharded(chosen->with(inserted)) : open_single(chosen->with(inserted));
}

void Checkpoint::clear() {
  files_.clear();
  tensors_.clear();
  positions_.clear();
  unlisted_.clear();
}

void Checkpoint::open_single(const std::string& name) {
  open_file(name);
  std::map<std::string, std::string> everything;
  for (const auto& info : files_.begin()->second->tensors()) {
    everything.emplace(info.name, name);
  }
  add_tensors(everything);
}

void Checkpoint::open_sharded(const std::string& index_name) {
  const auto index_path = folder_ + "/" + index_name;
  const auto index = read_shard_index(index_path);
  open_listed(index.weight_map, index_path);
  add_tensors(index.weight_map);
  for (const auto& name : unlisted_) {
    TORCH_WARN(printable(index_path), " does not list the tensor ", printable(name), " that a shard holds");
  }
  if (index.total_size && unlisted_.empty() && *index.total_size != static_cast<double>(bytes())) {
    TORCH_WARN(printable(index_path), ": total_size is ", *index.total_size, ", the shards hold ", bytes(), " bytes");
  }
}

void Checkpoint::open_listed(const std::map<std::string, std::string>& weight_map, const std::string& index_path) {
  std::set<std::string> files, names;
  for (const auto& [name, file] : weight_map) {
    names.insert(name);
    files.insert(file);
  }
  warn_about_case(names, printable(index_path) + ": the tensor names");
  warn_about_case(files, printable(index_path) + ": the file names");
  check_all_exist(folder_, files, index_path);
  for (const auto& file : files) {
    open_file(file);
  }

  std::set<std::pair<std::string, std::string>> held;
  std::vector<std::string> lacking, twice;
  for (const auto& [file, opened] : files_) {
    for (const auto& info : opened->tensors()) {
      held.emplace(info.name, file);
      const auto listed = weight_map.find(info.name);
      if (listed != weight_map.end() && listed->second != file) {
        twice.push_back(info.name + " (in " + file + ", listed in " + listed->second + ")");
      }
    }
  }
  for (const auto& entry : weight_map) {
    if (!held.contains(entry)) {
      lacking.push_back(entry.first + " (" + entry.second + ")");
    }
  }
  TORCH_CHECK(lacking.empty(), printable(index_path), ": the shard it names lacks the tensor: ", joined(lacking));
  TORCH_CHECK(twice.empty(), printable(index_path), ": a tensor lies in two shards: ", joined(twice));
}

void Checkpoint::open_file(const std::string& name) {
  const auto path = folder_ + "/" + name;
  if (is_torch_file(name)) {
    files_[name] = std::make_unique<TorchCheckpointFile>(path);
  } else {
    files_[name] = std::make_unique<SafetensorsFile>(path);
  }
}

void Checkpoint::add_tensors(const std::map<std::string, std::string>& weight_map) {
  for (const auto& [file, opened] : files_) {
    for (const auto& info : opened->tensors()) {
      if (weight_map.contains(info.name)) {
        positions_.emplace(info.name, tensors_.size());
        tensors_.push_back({info, file});
      } else {
        unlisted_.push_back(info.name);
      }
    }
  }
}

const CheckpointTensor& Checkpoint::found(const std::string& name) const {
  const auto position = positions_.find(name);
  TORCH_CHECK(position != positions_.end(), printable(folder_), ": the weights hold no tensor ", printable(name));
  return tensors_[position->second];
}

at::Tensor Checkpoint::tensor(const std::string& name) const { return files_.at(found(name).file)->tensor(name); }

void Checkpoint::drop_pages(const std::string& name) const { files_.at(found(name).file)->drop_pages(name); }

int64_t Checkpoint::bytes() const {
  int64_t total = 0;
  for (const auto& entry : files_) {
    total += entry.second->bytes();
  }
  return total;
}

std::vector<std::string> Checkpoint::files() const {
  std::vector<std::string> names;
  names.reserve(files_.size());
  for (const auto& entry : files_) {
    names.push_back(entry.first);
  }
  return names;
}

std::vector<std::string> Checkpoint::skipped() const {
  std::vector<std::string> values;
  for (const auto& entry : files_) {
    if (const auto* file = dynamic_cast<const TorchCheckpointFile*>(entry.second.get())) {
      values.insert(values.end(), file->skipped().begin(), file->skipped().end());
    }
  }
  return values;
}

}  // namespace transformers
