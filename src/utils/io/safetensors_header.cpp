// Follows the format of the safetensors library, version 0.8.0.
#include "utils/io/internal/safetensors_header.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "utils/io/internal/checked_math.h"
#include "utils/json/strict_json.h"
#include "utils/text/foreign_format.h"

namespace transformers {
namespace {

using nlohmann::ordered_json;

constexpr size_t kMaxTensors = 1'000'000;
constexpr size_t kMaxMetadata = 100'000;
constexpr size_t kMaxDimensions = 64;
// The reference parser accepts up to 128 open values.
constexpr int kMaxDepth = 127;

/// An entry as it is in the text; offsets count from the start of the data.
struct RawEntry {
  std::string name;
  std::optional<std::string> dtype;
  std::optional<std::vector<uint64_t>> shape, offsets;
};

/// Collects the entries while the header is parsed. Nothing else is kept, so memory grows only with the number of
/// tensors.
class HeaderVisitor : public JsonVisitor {
 public:
  explicit HeaderVisitor(const std::string& source) : source_(source) {}

  std::vector<RawEntry> entries;
  std::map<std::string, std::string> metadata;

  void scalar(ordered_json value) override {
    if (level_ == 0) {
      fail("the header must be an object");
    }
    if (level_ == 1) {
      check(in_metadata() && value.is_null(), "expected an object");
    } else if (level_ == 2 && in_metadata()) {
      check(value.is_string(), "expected texts");
      check(metadata.size() < kMaxMetadata, "holds more than 100000 texts");
      metadata[field_] = value.get<std::string>();  // of a repeated key the last value counts, as in the reference
    } else if (level_ == 2) {
      field_value(value);
    } else if (level_ == 3 && numbers_ != nullptr) {
      check(value.is_number_unsigned(), field_ + " must hold whole numbers >= 0");
      check(numbers_->size() < kMaxDimensions, field_ + " holds more than 64 numbers");
      numbers_->push_back(value.get<uint64_t>());
    }
  }

  void begin(bool is_object) override {
    if (level_ == 0 && !is_object) {
      fail("the header must be an object");
    }
    if (level_ == 1) {
      check(is_object, "expected an object");
    } else if (level_ == 2) {
      check(!in_metadata(), "expected texts");
      begin_field(is_object);
    } else if (level_ == 3) {
      check(numbers_ == nullptr, field_ + " must hold whole numbers >= 0");
    }
    ++level_;
  }

  void key(std::string name) override {
    if (level_ == 1) {
      name_ = std::move(name);
      start_entry();
    } else if (level_ == 2) {
      field_ = std::move(name);
    }
  }

  void end() override {
    if (--level_ == 2) {
      numbers_ = nullptr;
    }
  }

 private:
  bool in_metadata() const { return name_ == kSafetensorsMetadata; }

  void start_entry() {
    if (in_metadata()) {
      check(!seen_metadata_, "occurs twice in the header");
      seen_metadata_ = true;
      return;
    }
    check(entries.size() < kMaxTensors, "the header names more than a million tensors");
    entries.push_back({name_, {}, {}, {}});
  }

  void field_value(const ordered_json& value) {
    check(field_ != "shape" && field_ != "data_offsets", field_ + " must be an array");
    if (field_ == "dtype") {
      check(value.is_string(), "dtype must be a text");
      check(!entries.back().dtype, "duplicate dtype");
      entries.back().dtype = value.get<std::string>();
    }
  }

  void begin_field(bool is_object) {
    check(field_ != "dtype", "dtype must be a text");
    auto* field = field_ == "shape"          ? &entries.back().shape
                  : field_ == "data_offsets" ? &entries.back().offsets
                                             : nullptr;
    if (field == nullptr) {
      return;
    }
    check(!is_object, field_ + " must be an array");
    check(!field->has_value(), "duplicate " + field_);
    numbers_ = &field->emplace();
  }

  [[noreturn]] void fail(const std::string& rule) const { TORCH_CHECK(false, source_, ": ", rule); }

  void check(bool holds, const std::string& rule) const {
    TORCH_CHECK(holds, source_, ": ", in_metadata() ? "" : "tensor ", printable(name_), ": ", rule);
  }

  const std::string& source_;
  int level_ = 0;
  bool seen_metadata_ = false;
  std::string name_, field_;
  std::vector<uint64_t>* numbers_ = nullptr;  // the array being read; null within a field that is ignored
};

/// Turns one raw entry into a checked one.
class EntryChecker {
 public:
  EntryChecker(const std::string& source, size_t data_begin, size_t data_size)
      : source_(source), data_begin_(data_begin), data_size_(data_size) {}

  SafetensorsEntry operator()(RawEntry&& raw) const {
    const auto fail_unless = [&](bool holds, const auto&... rule) {
      TORCH_CHECK(holds, source_, ": tensor ", printable(raw.name), ": ", rule...);
    };
    fail_unless(raw.dtype.has_value(), "dtype is missing");
    fail_unless(raw.shape.has_value(), "shape is missing");
    fail_unless(raw.offsets.has_value(), "data_offsets is missing");
    const auto dtype = safetensors_dtype(*raw.dtype);
    fail_unless(dtype.has_value(), "the dtype ", printable(*raw.dtype), " is not supported");
    fail_unless(raw.offsets->size() == 2, "data_offsets must hold two numbers, found ", raw.offsets->size());
    const auto [begin, end] = std::array{(*raw.offsets)[0], (*raw.offsets)[1]};
    fail_unless(begin <= end, "data_offsets begin at ", begin, " after their end ", end);
    fail_unless(end <= data_size_, "data_offsets end at ", end, ", past the ", data_size_, " bytes of data");

    std::vector<int64_t> shape(raw.shape->begin(), raw.shape->end());  // sizes that are too large become negative
    const auto bytes = dense_bytes(shape, static_cast<int64_t>(c10::elementSize(*dtype)));
    fail_unless(bytes.has_value(), "the size of the shape overflows");
    fail_unless(static_cast<uint64_t>(*bytes) == end - begin, "dtype and shape need ", *bytes,
                " bytes, data_offsets span ", end - begin);
    return {{std::move(raw.name), *dtype, std::move(shape), *bytes}, data_begin_ + begin};
  }

 private:
  const std::string& source_;
  size_t data_begin_, data_size_;
};

void check_unique(const std::vector<SafetensorsEntry>& entries, const std::string& source) {
  std::unordered_set<std::string_view> names;
  for (const auto& entry : entries) {
    TORCH_CHECK(names.insert(entry.info.name).second, source, ": duplicate tensor name ", printable(entry.info.name));
  }
}

/// The data must be covered without gaps or overlaps.
void check_coverage(const std::vector<SafetensorsEntry>& entries, size_t data_begin, size_t file_size,
                    const std::string& source) {
  size_t expected = data_begin;
  for (const auto& entry : entries) {
    TORCH_CHECK(entry.begin == expected, source, ": tensor ", printable(entry.info.name), ": data_offsets begin at ",
                entry.begin - data_begin, ", expected ", expected - data_begin,
                "; tensors must follow each other without holes or overlaps");
    expected += static_cast<size_t>(entry.info.bytes);
  }
  TORCH_CHECK(expected == file_size, source, ": ", file_size - expected, " bytes follow the last tensor");
}

/// The JSON text; refuses a length that the file cannot hold.
std::string_view header_text(std::string_view file, const std::string& source) {
  const auto note = foreign_format_note(file.substr(0, 64));
  TORCH_CHECK(file.size() >= 8, source, ": expected a safetensors file of at least 8 bytes, found ", file.size(), note);
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  TORCH_CHECK(length <= file.size() - 8, source, ": expected a safetensors file, but its header would be ", length,
              " bytes long and ", file.size() - 8, " bytes follow", note);
  TORCH_CHECK(length <= kMaxSafetensorsHeader, source, ": the header is ", length, " bytes long, more than ",
              kMaxSafetensorsHeader);
  return file.substr(8, length);
}

}  // namespace

SafetensorsHeader parse_safetensors(std::string_view file, const std::string& source) {
  const auto name = printable(source);
  const auto text = header_text(file, name);
  HeaderVisitor visitor(name);
  visit_strict_json(text, source, visitor, {.max_bytes = kMaxSafetensorsHeader, .max_depth = kMaxDepth});

  const size_t data_begin = 8 + text.size();
  const EntryChecker checked(name, data_begin, file.size() - data_begin);
  SafetensorsHeader header{.metadata = std::move(visitor.metadata), .entries = {}};
  header.entries.reserve(visitor.entries.size());
  for (auto& raw : visitor.entries) {
    header.entries.push_back(checked(std::move(raw)));
  }
  check_unique(header.entries, name);
  // Empty tensors are sorted before the tensor that begins at the same offset.
  std::ranges::stable_sort(header.entries, [](const auto& a, const auto& b) {
    return std::pair(a.begin, a.info.bytes) < std::pair(b.begin, b.info.bytes);
  });
  check_coverage(header.entries, data_begin, file.size(), name);
  return header;
}

}  // namespace transformers
