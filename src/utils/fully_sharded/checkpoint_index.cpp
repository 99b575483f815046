// Writes and parses sharded_checkpoint.index.json, which says which file holds which slice of which tensor. Parsing is
// strict: every rule is checked that does not need the files themselves.
#include "utils/fully_sharded/checkpoint_index.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "utils/files/internal/file_name.h"
#include "utils/files/internal/regular_file.h"
#include "utils/io/internal/checked_math.h"
#include "utils/io/internal/safetensors_header.h"
#include "utils/json/strict_json.h"

namespace transformers {
namespace {

using nlohmann::ordered_json;

constexpr const char* kFormat = "libtransformers sharded checkpoint";
constexpr int64_t kVersion = 1;
constexpr size_t kMaxIndexBytes = 512 << 20;
constexpr size_t kMaxDimensions = 64;

/// Fields of one object of the index, with its place for errors.
class Fields {
 public:
  Fields(const ordered_json& object, std::string place) : object_(object), place_(std::move(place)) {
    TORCH_CHECK(object.is_object(), place_, ": expected an object, found ", object.type_name());
  }

  const ordered_json& at(const char* key) const {
    TORCH_CHECK(object_.contains(key), place_, ": key ", key, " is missing");
    return object_[key];
  }
  std::string text(const char* key) const {
    const auto& value = at(key);
    TORCH_CHECK(value.is_string(), place_, ": ", key, " must be a text, found ", value.type_name());
    return value.get<std::string>();
  }
  int64_t number(const char* key) const { return number(at(key), key); }
  std::vector<int64_t> numbers(const char* key) const {
    const auto& value = at(key);
    TORCH_CHECK(value.is_array() && value.size() <= kMaxDimensions, place_, ": ", key, " must be an array of at most ",
                kMaxDimensions, " numbers");
    std::vector<int64_t> numbers;
    for (const auto& item : value) {
      numbers.push_back(number(item, key));
    }
    return numbers;
  }
  const std::string& place() const { return place_; }

 private:
  int64_t number(const ordered_json& value, const char* key) const {
    TORCH_CHECK(value.is_number_integer() && value >= 0 && value <= std::numeric_limits<int64_t>::max(), place_, ": ",
                key, " must hold whole numbers >= 0 below 2^63, found ", printable(value.dump()));
    return value.get<int64_t>();
  }

  const ordered_json& object_;
  std::string place_;
};

IndexSlice parse_slice(const Fields& fields) {
  IndexSlice slice{.file = fields.text("file"), .start = fields.number("start"), .length = fields.number("length")};
  check_plain_file_name(slice.file, fields.place());
  return slice;
}

IndexEntry parse_entry(const Fields& fields) {
  const auto dtype_name = fields.text("dtype");
  const auto dtype = safetensors_dtype(dtype_name);
  TORCH_CHECK(dtype, fields.place(), ": the dtype ", printable(dtype_name), " is not supported");
  IndexEntry entry{.dtype = *dtype, .sizes = fields.numbers("shape"), .dim = fields.number("dim")};
  TORCH_CHECK(dense_bytes(entry.sizes, static_cast<int64_t>(c10::elementSize(*dtype))), fields.place(),
              ": the size of the shape overflows");
  TORCH_CHECK(entry.dim < std::max<int64_t>(1, static_cast<int64_t>(entry.sizes.size())), fields.place(), ": dim ",
              entry.dim, " is not one of the shape's");
  const auto& slices = fields.at("slices");
  TORCH_CHECK(slices.is_array(), fields.place(), ": slices must be an array, found ", slices.type_name());
  for (const auto& slice : slices) {
    entry.slices.push_back(parse_slice(Fields(slice, fields.place() + ": slices")));
  }
  return entry;
}

}  // namespace

std::vector<int64_t> IndexEntry::sizes_of(const IndexSlice& slice) const {
  auto result = sizes;
  if (!result.empty()) {
    result[static_cast<size_t>(dim)] = slice.length;
  }
  return result;
}

void check_whole(const std::string& name, const IndexEntry& entry, const std::string& source) {
  int64_t expected = 0;
  for (const auto& slice : entry.slices) {
    TORCH_CHECK(slice.start == expected && slice.length > 0 && slice.length <= entry.full() - expected, source,
                ": the slices of ", printable(name),
                " must follow each other without holes or overlaps; one begins at ", slice.start, " with ",
                slice.length, " entries, expected ", expected, " of ", entry.full());
    expected += slice.length;
  }
  TORCH_CHECK(expected == entry.full(), source, ": the slices of ", printable(name), " hold ", expected, " of ",
              entry.full(), " entries of dimension ", entry.dim);
}

std::string index_text(const CheckpointIndex& index) {
  ordered_json tensors = ordered_json::object();
  for (const auto& [name, entry] : index.tensors) {
    auto slices = ordered_json::array();
    for (const auto& slice : entry.slices) {
      slices.push_back({{"file", slice.file}, {"start", slice.start}, {"length", slice.length}});
    }
    tensors[name] = {{"dtype", safetensors_name(entry.dtype)},
                     {"shape", entry.sizes},
                     {"dim", entry.dim},
                     {"slices", std::move(slices)}};
  }
  const ordered_json json{{"format", kFormat},
                          {"version", kVersion},
                          {kSaveId, index.save_id},
                          {"metadata", index.metadata},
                          {"tensors", std::move(tensors)}};
  return json.dump(/*indent=*/1, ' ', /*ensure_ascii=*/true) + "\n";
}

CheckpointIndex parse_index(std::string_view text, const std::string& source, bool whole) {
  const auto json = parse_strict_json(text, source, {.max_bytes = kMaxIndexBytes});
  const Fields fields(json, printable(source));
  TORCH_CHECK(json.is_object() && json.contains("format") && json["format"] == kFormat, fields.place(),
              ": this is no index of a sharded checkpoint");
  TORCH_CHECK(fields.number("version") == kVersion, fields.place(), ": expected version ", kVersion, ", found ",
              fields.number("version"));
  CheckpointIndex index{.save_id = fields.text(kSaveId)};
  for (const auto& [key, value] : fields.at("metadata").items()) {
    TORCH_CHECK(value.is_string(), fields.place(), ": metadata must hold texts, found ", value.type_name());
    index.metadata.emplace(key, value.get<std::string>());
  }
  const auto& tensors = fields.at("tensors");
  TORCH_CHECK(tensors.is_object(), fields.place(), ": tensors must be an object, found ", tensors.type_name());
  for (const auto& [name, entry] : tensors.items()) {
    const auto [parsed, is_new] =
        index.tensors.emplace(name, parse_entry(Fields(entry, fields.place() + ": " + printable(name))));
    if (whole) {
      check_whole(name, parsed->second, fields.place());
    }
  }
  return index;
}

CheckpointIndex read_index(const std::string& folder) {
  const auto path = folder + "/" + kShardedIndexFile;
  return parse_index(read_regular_file(path, kMaxIndexBytes), path);
}

}  // namespace transformers
