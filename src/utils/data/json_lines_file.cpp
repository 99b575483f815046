#include "utils/data/json_lines_file.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cctype>

#include "utils/files/internal/regular_file.h"
#include "utils/json/strict_json.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

constexpr size_t kLongestLine = size_t{64} << 20;
constexpr size_t kPiece = size_t{1} << 20;

/// Finds the elements of an array, character by character.
class ElementScanner {
 public:
  /// Whether the element that begins at begin() ends before this character.
  bool take(char c, size_t place) {
    if (in_string_) {
      in_string_ = is_escaped_ || c != '"';
      is_escaped_ = !is_escaped_ && c == '\\';
      return false;
    }
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
      return false;
    }
    const bool ends = depth_ == 1 && (c == ',' || c == ']');
    const bool has_element = in_element_;
    failed_ =
        failed_ || is_closed_ || (depth_ == 0 && c != '[') || (ends && !has_element && (c == ',' || after_comma_));
    if (depth_ == 1 && !ends && !in_element_) {
      in_element_ = true;
      begin_ = place;
    }
    if (ends) {
      in_element_ = false;
      after_comma_ = c == ',';
    }
    in_string_ = c == '"';
    depth_ += c == '[' || c == '{' ? 1 : c == ']' || c == '}' ? -1 : 0;
    is_closed_ = depth_ == 0;
    return ends && has_element;
  }

  size_t begin() const { return begin_; }
  size_t length(size_t place) const { return in_element_ ? place - begin_ : 0; }
  bool failed() const { return failed_; }
  bool is_closed() const { return is_closed_; }

 private:
  int64_t depth_ = 0;
  size_t begin_ = 0;
  bool in_string_ = false, is_escaped_ = false, in_element_ = false, after_comma_ = false;
  bool is_closed_ = false, failed_ = false;
};

}  // namespace

JsonLinesFile::JsonLinesFile(const std::string& path) : path_(path), file_(std::make_unique<RegularFile>(path)) {
  if (is_array()) {
    unit_ = "element";
    find_elements();
  } else {
    find_lines();
  }
  TORCH_CHECK(!lines_.empty(), printable(path), ": the file holds no sample");
}

JsonLinesFile::~JsonLinesFile() = default;

void JsonLinesFile::find_lines() {
  size_t begin = 0, number = 1;
  bool blank = true;
  const auto end_line = [&](size_t end) {
    TORCH_CHECK(end - begin <= kLongestLine, printable(path_), " line ", number, ": a line may have ", kLongestLine,
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

bool JsonLinesFile::is_array() const {
  auto end = path_.substr(path_.size() - std::min<size_t>(path_.size(), 5));
  std::transform(end.begin(), end.end(), end.begin(), [](unsigned char c) { return std::tolower(c); });
  const auto head = end == ".json" ? file_->read(0, std::min<size_t>(file_->size(), 4096)) : "";
  const auto first = head.find_first_not_of(" \t\r\n");
  return first != std::string::npos && head[first] == '[';
}

/// Finds only where elements begin and end; each element is parsed strictly when it is requested.
void JsonLinesFile::find_elements() {
  ElementScanner scanner;
  const auto size = file_->size();
  for (size_t offset = 0; offset < size; offset += kPiece) {
    const auto piece = file_->read(offset, std::min(kPiece, size - offset));
    for (size_t i = 0; i < piece.size(); ++i) {
      const auto ended = scanner.take(piece[i], offset + i);
      TORCH_CHECK(!scanner.failed(), printable(path_),
                  ": expected one JSON array of objects, which goes wrong at byte ", offset + i);
      TORCH_CHECK(scanner.length(offset + i) <= kLongestLine, printable(path_), " element ", lines_.size() + 1,
                  ": an element may have ", kLongestLine, " bytes, this one has more");
      if (ended) {
        lines_.push_back({scanner.begin(), offset + i - scanner.begin(), lines_.size() + 1});
      }
    }
  }
  TORCH_CHECK(scanner.is_closed(), printable(path_), ": the JSON array has no end");
}

std::string JsonLinesFile::source(int64_t index) const {
  return path_ + " " + unit_ + " " + std::to_string(lines_.at(static_cast<size_t>(index)).number);
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
