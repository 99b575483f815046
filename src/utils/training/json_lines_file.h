#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace transformers {

class RegularFile;

/// A file of one JSON object a line. Lines are found once and read when they are asked for; blank ones are left out.
class JsonLinesFile {
 public:
  using Json = nlohmann::ordered_json;

  /// Throws when the file holds no line, or one beyond 64 MiB.
  explicit JsonLinesFile(const std::string& path);
  ~JsonLinesFile();

  int64_t size() const { return static_cast<int64_t>(lines_.size()); }
  /// "<path> line <number>", counted from 1 with the blank ones.
  std::string source(int64_t index) const;
  /// Throws, naming the line, when it is no JSON object.
  Json object(int64_t index) const;

 private:
  struct Line {
    size_t begin, size, number;
  };
  void find_lines();

  std::string path_;
  std::unique_ptr<RegularFile> file_;
  std::vector<Line> lines_;
};

/// The string under a key; throws, naming source and key, when there is none.
std::string string_of(const nlohmann::ordered_json& object, const char* key, const std::string& source);

}  // namespace transformers
