#include <c10/util/Exception.h>
#include <c10/util/accumulate.h>
#include <transformers/utils/io/torch_checkpoint.h>

#include <map>
#include <mutex>
#include <set>

#include "utils/io/mapped_file.h"
#include "utils/io/pickle.h"
#include "utils/io/zip_archive.h"
#include "utils/json/foreign_format.h"
#include "utils/json/printable.h"

namespace transformers {
namespace {

using Kind = PickleValue::Kind;
using Records = std::map<std::string, std::string_view>;

constexpr size_t kMaxDepth = 64, kMaxName = 512;
// Suits every dtype; torch itself aligns to 64.
constexpr size_t kStorageAlignment = 16;

template <class... Words>
void check_pickle(bool holds, const std::string& source, const Words&... fault) {
  TORCH_CHECK(holds, source, ": refused pickle: ", fault..., "; safetensors files have no such risk");
}

void check_is_torch_zip(std::string_view file, const std::string& source) {
  if (file.starts_with("PK\x03\x04")) {
    return;
  }
  const bool is_legacy = file.starts_with("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8");
  TORCH_CHECK(!is_legacy, source, ": a pickle in the format of torch < 1.6; re-save it with torch >= 1.6, or better as",
              " safetensors");
  const auto note = foreign_format_note(file.substr(0, 64));
  TORCH_CHECK(false, source, ": expected a zip archive with a pickle, as torch.save writes it", note);
}

/// The records without the folder that all of them lie in.
Records without_folder(const Records& records, const std::string& source) {
  Records inner;
  std::string folder;
  for (const auto& [name, bytes] : records) {
    const auto slash = name.find('/');
    TORCH_CHECK(slash != std::string::npos && (folder.empty() || name.substr(0, slash) == folder), source,
                ": the zip archive is not one of torch.save: its records do not lie in one folder");
    folder = name.substr(0, slash);
    inner.emplace(name.substr(slash + 1), bytes);
  }
  return inner;
}

Records read_records(std::string_view file, const std::string& path) {
  const auto source = printable(path);
  check_is_torch_zip(file, source);
  const auto check_name = [&](const std::string& name) {
    TORCH_CHECK(!name.ends_with("/constants.pkl"), source,
                ": a TorchScript archive holds code besides its pickle; save the state dict, best as safetensors");
  };
  auto records = without_folder(read_zip_archive(file, path, check_name), source);
  TORCH_CHECK(records.contains("data.pkl"), source, ": the zip archive is not one of torch.save: data.pkl is missing");
  const auto order = records.find("byteorder");
  TORCH_CHECK(order == records.end() || order->second == "little", source,
              ": the byte order of the tensors must be little, found ", printable(order->second));
  return records;
}

/// Collects what a dictionary and those in it hold, with their full names.
class Flattener {
 public:
  explicit Flattener(const std::string& source) : source_(source) {}

  std::vector<std::pair<std::string, const PickleValue*>> tensors;
  std::vector<std::string> skipped;

  void add(const PickleValue& dict, const std::string& prefix, size_t depth = 0) {
    check_pickle(depth < kMaxDepth, source_, "dictionaries are nested deeper than ", kMaxDepth);
    check_pickle(visited_.insert(&dict).second, source_, "the dictionary ", printable(prefix), " stands in it twice");
    for (size_t i = 0; i + 1 < dict.items.size(); i += 2) {
      add_item(prefix + key_text(*dict.items[i]), *dict.items[i + 1], depth);
    }
  }

 private:
  std::string key_text(const PickleValue& key) const {
    check_pickle(key.kind == Kind::kText || key.kind == Kind::kInteger, source_, "a dictionary key is a ",
                 kind_name(key), ", expected a text");
    return key.kind == Kind::kText ? key.text : std::to_string(key.integer);
  }

  void add_item(const std::string& name, const PickleValue& value, size_t depth) {
    check_pickle(name.size() <= kMaxName, source_, "a name is longer than ", kMaxName, " bytes: ", printable(name));
    check_pickle(names_.insert(name).second, source_, "two entries are called ", printable(name));
    if (value.kind == Kind::kDict) {
      add(value, name + ".", depth + 1);
    } else if (value.kind == Kind::kTensor) {
      tensors.emplace_back(name, &value);
    } else {
      skipped.push_back(name + " (" + std::string(kind_name(value)) + ")");
    }
  }

  const std::string& source_;
  std::set<std::string> names_;
  std::set<const PickleValue*> visited_;
};

}  // namespace

struct TorchCheckpointFile::Contents {
  struct View {
    std::string_view record;
    int64_t offset;
    std::vector<int64_t> strides;
  };

  explicit Contents(const std::string& path)
      : file(std::make_shared<const MappedFile>(path)), records(read_records(file->bytes(), path)) {}

  /// The record of a storage; the pickle must not claim more or less than there is.
  std::string_view record(const PickleValue& storage, const std::string& name) const {
    const auto found = records.find("data/" + storage.text);
    const auto size = found == records.end() ? 0 : static_cast<int64_t>(found->second.size());
    check_pickle(found != records.end() && size == storage.integer, printable(file->path()), "the storage of tensor ",
                 printable(name), " should have ", storage.integer, " bytes, the record data/", printable(storage.text),
                 " has ", size);
    return found->second;
  }

  /// One storage for all tensors of a record, as long as one of them lives.
  c10::Storage storage(std::string_view record) {
    const std::scoped_lock guard(mutex);
    auto& known = storages[record.data()];
    if (auto alive = known ? known->lock() : nullptr) {
      return {std::move(alive)};
    }
    auto created = storage_of(file, record, kStorageAlignment);
    known = created.getWeakStorageImpl();
    return created;
  }

  std::shared_ptr<const MappedFile> file;
  Records records;
  std::vector<View> views;  // beside tensors_
  std::mutex mutex;
  std::map<const char*, std::optional<c10::weak_intrusive_ptr<c10::StorageImpl>>> storages;
};

TorchCheckpointFile::TorchCheckpointFile(const std::string& path) : contents_(std::make_unique<Contents>(path)) {
  const auto source = printable(path);
  const Pickle pickle(contents_->records.at("data.pkl"), path);
  TORCH_CHECK(pickle.root().kind == Kind::kDict, source, ": expected a pickled dictionary of tensors, found a ",
              kind_name(pickle.root()));
  Flattener flattener(source);
  flattener.add(pickle.root(), "");
  for (auto& [name, value] : flattener.tensors) {
    const auto bytes = c10::multiply_integers(value->sizes) * static_cast<int64_t>(c10::elementSize(value->dtype));
    contents_->views.push_back({contents_->record(*value->items[0], name), value->integer, value->strides});
    positions_.emplace(name, tensors_.size());
    tensors_.push_back({std::move(name), value->dtype, value->sizes, bytes});
  }
  skipped_ = std::move(flattener.skipped);
}

TorchCheckpointFile::~TorchCheckpointFile() = default;

const std::string& TorchCheckpointFile::path() const { return contents_->file->path(); }

int64_t TorchCheckpointFile::bytes() const {
  std::map<const char*, size_t> sizes;
  for (const auto& view : contents_->views) {
    sizes[view.record.data()] = view.record.size();
  }
  int64_t total = 0;
  for (const auto& entry : sizes) {
    total += static_cast<int64_t>(entry.second);
  }
  return total;
}

size_t TorchCheckpointFile::position(const std::string& name) const {
  const auto found = positions_.find(name);
  TORCH_CHECK(found != positions_.end(), printable(path()), ": holds no tensor ", printable(name));
  return found->second;
}

at::Tensor TorchCheckpointFile::tensor(const std::string& name) const {
  const auto at = position(name);
  const auto& info = tensors_[at];
  const auto& view = contents_->views[at];
  if (info.dtype == c10::ScalarType::Bool) {
    check_bools(view.record, path(), name);
  }
  return tensor_over(contents_->storage(view.record), info.dtype, view.offset, info.shape, view.strides);
}

void TorchCheckpointFile::drop_pages(const std::string& name) const {
  MappedFile::drop_pages(contents_->views[position(name)].record);
}

}  // namespace transformers
