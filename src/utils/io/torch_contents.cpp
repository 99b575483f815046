// Follows torch/serialization.py of PyTorch 2.11.
#include "utils/io/torch_contents.h"

#include <c10/util/Exception.h>
#include <c10/util/accumulate.h>

#include <map>
#include <set>

#include "utils/io/pickle.h"
#include "utils/io/zip_archive.h"
#include "utils/text/foreign_format.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

using Kind = PickleValue::Kind;
using Records = std::map<std::string, std::string_view>;

constexpr size_t kMaxDepth = 64, kMaxName = 512;
// Limits names and shapes of all entries: one tensor may occur in a dictionary many times, at two bytes each.
constexpr size_t kMaxEntryBytes = 32 << 20;

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

Records read_records(std::string_view file, const std::string& source) {
  check_is_torch_zip(file, source);
  const auto check_name = [&](const std::string& name) {
    TORCH_CHECK(!name.ends_with("/constants.pkl"), source,
                ": a TorchScript archive holds code besides its pickle; save the state dict, best as safetensors");
  };
  auto records = without_folder(read_zip_archive(file, source, check_name), source);
  TORCH_CHECK(records.contains("data.pkl"), source, ": the zip archive is not one of torch.save: data.pkl is missing");
  const auto order = records.find("byteorder");
  TORCH_CHECK(order == records.end() || order->second == "little", source,
              ": the byte order of the tensors must be little, found ", printable(order->second));
  return records;
}

/// Collects the entries of a dictionary and of nested ones, with their full names.
class Flattener {
 public:
  explicit Flattener(const std::string& source) : source_(source) {}

  std::vector<std::pair<std::string, const PickleValue*>> tensors;
  std::vector<std::string> skipped;

  void add(const PickleValue& dict, const std::string& prefix, size_t depth = 0) {
    check_pickle(depth < kMaxDepth, source_, "dictionaries are nested deeper than ", kMaxDepth);
    check_pickle(visited_.insert(&dict).second, source_, "the dictionary ", printable(prefix), " occurs in it twice");
    for (size_t i = 0; i + 1 < dict.items.size(); i += 2) {
      add_item(prefix + key_text(*dict.items[i]), *dict.items[i + 1], depth);
    }
  }

 private:
  std::string key_text(const PickleValue& key) const {
    check_pickle(key.kind == Kind::kText || key.kind == Kind::kInteger, source_, "a dictionary key is a ",
                 kind_name(key), ", expected a text");
    return key.kind == Kind::kText ? std::string(key.text) : std::to_string(key.integer);
  }

  void add_item(const std::string& name, const PickleValue& value, size_t depth) {
    check_pickle(name.size() <= kMaxName, source_, "a name is longer than ", kMaxName, " bytes: ", printable(name));
    entry_bytes_ +=
        sizeof(TensorInfo) + name.size() + (value.layout ? value.layout->sizes.size() * 2 * sizeof(int64_t) : 0);
    check_pickle(entry_bytes_ <= kMaxEntryBytes, source_, "the names and shapes of its entries take more than ",
                 kMaxEntryBytes, " bytes");
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
  size_t entry_bytes_ = 0;
  std::set<std::string> names_;
  std::set<const PickleValue*> visited_;
};

/// The record of a storage; the pickle must give exactly the record's size.
std::string_view record_of(const PickleValue& storage, const Records& records, const std::string& source,
                           const std::string& name) {
  const auto found = records.find("data/" + std::string(storage.text));
  const auto size = found == records.end() ? 0 : static_cast<int64_t>(found->second.size());
  check_pickle(found != records.end() && size == storage.integer, source, "the storage of tensor ", printable(name),
               " should have ", storage.integer, " bytes, the record data/", printable(storage.text), " has ", size);
  return found->second;
}

}  // namespace

TorchContents parse_torch_checkpoint(std::string_view file, const std::string& path) {
  const auto source = printable(path);
  const auto records = read_records(file, source);
  const Pickle pickle(records.at("data.pkl"), path);
  TORCH_CHECK(pickle.root().kind == Kind::kDict, source, ": expected a pickled dictionary of tensors, found a ",
              kind_name(pickle.root()));
  Flattener flattener(source);
  flattener.add(pickle.root(), "");
  TorchContents contents{.tensors = {}, .views = {}, .skipped = std::move(flattener.skipped)};
  for (auto& [name, value] : flattener.tensors) {
    const auto& [sizes, strides] = *value->layout;
    const auto bytes = c10::multiply_integers(sizes) * static_cast<int64_t>(c10::elementSize(value->dtype));
    contents.views.push_back({record_of(*value->items[0], records, source, name), value->integer, strides});
    contents.tensors.push_back({std::move(name), value->dtype, sizes, bytes});
  }
  return contents;
}

}  // namespace transformers
