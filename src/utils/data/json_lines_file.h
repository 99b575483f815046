#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace transformers {

class RegularFile;

/// A file with one JSON object per line, or, if its name ends with ".json" and it begins with a bracket, with one array
/// of objects. The objects are located once and parsed on access; blank lines are skipped.
class JsonLinesFile {
 public:
  using Json = nlohmann::ordered_json;

  /// Throws when the file holds no object, or a line or an object of more than 64 MiB.
  explicit JsonLinesFile(const std::string& path);
  ~JsonLinesFile();

  int64_t size() const { return static_cast<int64_t>(lines_.size()); }
  /// "<path> line <number>", counted from 1 including blank lines; for an array "<path> element <number>".
  std::string source(int64_t index) const;
  /// Throws, naming the line, when it is not a JSON object.
  Json object(int64_t index) const;

 private:
  struct Line {
    size_t begin, size, number;
  };
  bool is_array() const;
  void find_lines();
  void find_elements();

  std::string path_, unit_ = "line";
  std::unique_ptr<RegularFile> file_;
  std::vector<Line> lines_;
};

/// The string under a key. Throws, naming source and key, when there is none.
std::string string_of(const nlohmann::ordered_json& object, const char* key, const std::string& source);

}  // namespace transformers
