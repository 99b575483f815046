#include "utils/training/json_lines_file.h"

#include <c10/util/Exception.h>

#include <algorithm>

#include "utils/json/regular_file.h"
#include "utils/json/strict_json.h"

namespace transformers {
namespace {

constexpr size_t kLongestLine = size_t{64} << 20;

}  // namespace

JsonLinesFile::JsonLinesFile(const std::string& path) : path_(path), file_(std::make_unique<RegularFile>(path)) {
  find_lines();
  TORCH_CHECK(!lines_.empty(), path, ": the file holds no sample");
}

JsonLinesFile::~JsonLinesFile() = default;

void JsonLinesFile::find_lines() {
  constexpr size_t kPiece = size_t{1} << 20;
  size_t begin = 0, number = 1;
  bool blank = true;
  const auto end_line = [&](size_t end) {
    TORCH_CHECK(end - begin <= kLongestLine, path_, " line ", number, ": a line may have ", kLongestLine,
                " bytes, this one has ", end - begin);
    if (!blank) {
      lines_.push_back({begin, end - begin, number});
    }
    begin = end + 1;
    ++number;
    blank = true;
  };
  const auto size = file_->size();
  for (size_t offset = 0; offset < size; offset += kPiece) {
    const auto piece = file_->read(offset, std::min(kPiece, size - offset));
    for (size_t i = 0; i < piece.size(); ++i) {
      if (piece[i] == '\n') {
        end_line(offset + i);
      } else {
        blank = blank && (piece[i] == ' ' || piece[i] == '\t' || piece[i] == '\r');
      }
    }
  }
  end_line(size);
}

std::string JsonLinesFile::source(int64_t index) const {
  return path_ + " line " + std::to_string(lines_.at(static_cast<size_t>(index)).number);
}

JsonLinesFile::Json JsonLinesFile::object(int64_t index) const {
  const auto& place = lines_.at(static_cast<size_t>(index));
  auto line = parse_strict_json(file_->read(place.begin, place.size), source(index),
                                {.max_bytes = kLongestLine, .max_depth = 64});
  TORCH_CHECK(line.is_object(), source(index), ": expected a JSON object, found ", line.type_name());
  return line;
}

std::string string_of(const nlohmann::ordered_json& object, const char* key, const std::string& source) {
  const auto found = object.find(key);
  TORCH_CHECK(found != object.end() && found->is_string(), source, ": the object must hold a string \"", key, "\"",
              found == object.end() ? ", it is missing" : std::string(", found ") + found->type_name());
  return found->get<std::string>();
}

}  // namespace transformers
