// Strict parsing on the SAX interface of nlohmann/json: StrictSax enforces the limits and passes events to a
// JsonVisitor; DomBuilder is the visitor that builds the whole value and rejects repeated keys.
#include "utils/json/strict_json.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "utils/text/foreign_format.h"

namespace transformers {
namespace {

using nlohmann::ordered_json;

/// The SAX interface of nlohmann/json with strict rules: it tracks its position and stops at the depth limit.
class StrictSax : public nlohmann::json_sax<ordered_json> {
 public:
  StrictSax(std::string_view text, const std::string& source, int max_depth, JsonVisitor& visitor)
      : text_(text), source_(source), max_depth_(max_depth), visitor_(visitor) {}

  bool null() override { return scalar(nullptr); }
  bool boolean(bool value) override { return scalar(value); }
  bool number_integer(number_integer_t value) override { return scalar(value); }
  bool number_unsigned(number_unsigned_t value) override { return scalar(value); }
  bool string(string_t& value) override { return scalar(std::move(value)); }
  bool binary(binary_t& /*value*/) override { return false; }

  /// Integers beyond 64 bits arrive here too and are kept: Python has them, and under a key that nobody reads they do
  /// no harm. Code that reads integers refuses them because of their type.
  bool number_float(number_float_t value, const string_t& /*text*/) override { return scalar(value); }

  bool start_object(size_t /*size*/) override { return begin(/*is_object=*/true); }
  bool start_array(size_t /*size*/) override { return begin(/*is_object=*/false); }
  bool end_object() override { return end(); }
  bool end_array() override { return end(); }

  bool key(string_t& name) override {
    open_.back().key = name;
    visitor_.key(std::move(name));
    return true;
  }

  bool parse_error(size_t position, const std::string& /*token*/, const nlohmann::json::exception& error) override {
    std::string reason = error.what();
    // Drop "[json.exception.parse_error.101] parse error at line 1, column 2: ".
    if (const auto colon = reason.find(": "); colon != std::string::npos && error.id < 400) {
      reason.erase(0, colon + 2);
    } else if (const auto bracket = reason.find("] "); bracket != std::string::npos) {
      reason.erase(0, bracket + 2);
    }
    TORCH_CHECK(false, source_, ": not valid JSON at byte ", position, ": ", printable(reason),
                foreign_format_note(text_));
    return false;
  }

 private:
  struct Level {
    bool is_object;
    std::string key;
    size_t index = 0;
  };

  bool scalar(ordered_json value) {
    visitor_.scalar(std::move(value));
    step();
    return true;
  }

  bool begin(bool is_object) {
    TORCH_CHECK(open_.size() < static_cast<size_t>(max_depth_), source_, ": ", where(), "nested deeper than ",
                max_depth_, " levels");
    open_.push_back({is_object, {}});
    visitor_.begin(is_object);
    return true;
  }

  bool end() {
    open_.pop_back();
    visitor_.end();
    step();
    return true;
  }

  void step() {
    if (!open_.empty()) {
      ++open_.back().index;
    }
  }

  /// "key a.b[2]: ", or nothing at the top.
  std::string where() const {
    std::string path;
    for (const auto& level : open_) {
      if (level.is_object) {
        path += (path.empty() ? "" : ".") + level.key;
      } else {
        path += "[" + std::to_string(level.index) + "]";
      }
    }
    return path.empty() ? "" : "key " + printable(path) + ": ";
  }

  std::string_view text_;
  const std::string& source_;
  size_t max_depth_;
  JsonVisitor& visitor_;
  std::vector<Level> open_;
};

/// Builds the whole value. Entries go straight to the end of their object: its own insertion searches for the key each
/// time, which is quadratic in a vocabulary.
class DomBuilder : public JsonVisitor {
 public:
  DomBuilder(const std::string& source, size_t max_values) : source_(source), max_values_(max_values) {}

  void scalar(ordered_json value) override { add(std::move(value)); }

  void begin(bool is_object) override {
    open_.push_back(&add(is_object ? ordered_json::object() : ordered_json::array()));
  }

  void key(std::string name) override { key_ = std::move(name); }

  void end() override {
    if (open_.back()->is_object()) {
      check_unique(open_.back()->get_ref<ordered_json::object_t&>());
    }
    open_.pop_back();
  }

  ordered_json take() { return std::move(root_); }

 private:
  ordered_json& add(ordered_json value) {
    TORCH_CHECK(++values_ <= max_values_, source_, ": expected at most ", max_values_, " JSON values");
    if (open_.empty()) {
      return root_ = std::move(value);
    }
    if (open_.back()->is_object()) {
      std::vector<ordered_json::object_t::value_type>& entries = open_.back()->get_ref<ordered_json::object_t&>();
      return entries.emplace_back(std::move(key_), std::move(value)).second;
    }
    return open_.back()->get_ref<ordered_json::array_t&>().emplace_back(std::move(value));
  }

  void check_unique(const ordered_json::object_t& object) const {
    std::vector<std::string_view> keys;
    keys.reserve(object.size());
    for (const auto& entry : object) {
      keys.emplace_back(entry.first);
    }
    std::ranges::sort(keys);
    const auto twin = std::ranges::adjacent_find(keys);
    TORCH_CHECK(twin == keys.end(), source_, ": duplicate key ", printable(path() + std::string(*twin)));
  }

  /// The innermost open value from the top, "a.b[2].": each open value is the last entry of the one before.
  std::string path() const {
    std::string path;
    for (size_t i = 0; i + 1 < open_.size(); ++i) {
      path += open_[i]->is_object() ? open_[i]->get_ref<ordered_json::object_t&>().back().first
                                    : "[" + std::to_string(open_[i]->size() - 1) + "]";
      path += open_[i + 1]->is_object() ? "." : "";
    }
    return path;
  }

  const std::string& source_;
  size_t max_values_, values_ = 0;
  ordered_json root_;
  std::vector<ordered_json*> open_;
  std::string key_;
};

void check_bytes(std::string_view text, const std::string& source, size_t max_bytes) {
  TORCH_CHECK(text.size() <= max_bytes, source, ": expected at most ", max_bytes, " bytes of JSON, found ",
              text.size());
  TORCH_CHECK(!text.empty(), source, ": expected JSON, found an empty text");
  TORCH_CHECK(!text.starts_with("\xEF\xBB\xBF"), source, ": JSON must not begin with a byte order mark");
  // nlohmann/json takes a NUL as the end of the text.
  const auto nul = text.find('\0');
  TORCH_CHECK(nul == std::string_view::npos, source, ": JSON holds a NUL at byte ", nul, foreign_format_note(text));
}

}  // namespace

void visit_strict_json(std::string_view text, const std::string& source, JsonVisitor& visitor, JsonLimits limits) {
  const auto name = printable(source);
  check_bytes(text, name, limits.max_bytes);
  StrictSax sax(text, name, limits.max_depth, visitor);
  ordered_json::sax_parse(text.begin(), text.end(), &sax);
}

ordered_json parse_strict_json(std::string_view text, const std::string& source, JsonLimits limits) {
  const auto name = printable(source);
  DomBuilder builder(name, limits.max_values);
  visit_strict_json(text, source, builder, limits);
  return builder.take();
}

}  // namespace transformers
