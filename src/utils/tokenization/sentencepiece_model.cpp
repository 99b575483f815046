// Follows sentencepiece_model.proto, the double array of darts-clone and the rewrite table of normalizer.cc, all of
// SentencePiece 0.1.97.
#include "utils/tokenization/sentencepiece_model.h"

#include <c10/util/Exception.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "utils/text/foreign_format.h"

namespace transformers::tokenization {
namespace {

// Fields of ModelProto and of the messages in it.
constexpr uint64_t kPieces = 1, kTrainerSpec = 2, kNormalizerSpec = 3, kDenormalizerSpec = 5;
constexpr uint64_t kPieceScore = 2;
constexpr uint64_t kPrecompiledCharsmap = 2;

/// Walks over the fields of one protobuf message.
class MessageReader {
 public:
  MessageReader(std::string_view bytes, const std::string& source) : rest_(bytes), source_(source) {}

  struct Field {
    uint64_t number;
    std::string_view bytes;  // of a length-delimited or fixed-size field
  };

  bool done() const { return rest_.empty(); }

  Field next() {
    const auto tag = varint();
    switch (tag & 7) {
      case 0:
        varint();
        return {tag >> 3, {}};
      case 1:
        return {tag >> 3, take(8)};
      case 2:
        return {tag >> 3, take(varint())};
      case 5:
        return {tag >> 3, take(4)};
      default:
        fail("expected a SentencePiece model, found a field of unknown kind");
    }
  }

 private:
  [[noreturn]] void fail(const char* problem) const {
    TORCH_CHECK(false, source_, ": not a SentencePiece model: ", problem);
    std::abort();
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) {
        return value;
      }
    }
    fail("a number has more than 64 bits");
  }

  std::string_view take(uint64_t size) {
    if (size > rest_.size()) {
      fail("a field reaches past the end");
    }
    const auto bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }

  std::string_view rest_;
  const std::string& source_;
};

uint32_t unit_at(std::string_view bytes, size_t index) {
  uint32_t unit = 0;
  std::memcpy(&unit, bytes.data() + index * sizeof(unit), sizeof(unit));
  return unit;
}

/// Every step from a unit of the double array must end inside the array, and every value must be an offset inside the
/// texts.
bool trie_is_safe(std::string_view trie, std::string_view texts) {
  const size_t units = trie.size() / sizeof(uint32_t);
  if (units == 0 || trie.size() % sizeof(uint32_t) != 0 || texts.empty() || texts.back() != '\0') {
    return false;
  }
  for (size_t i = 0; i < units; ++i) {
    const uint32_t unit = unit_at(trie, i);
    if (unit >> 31 != 0) {  // a value, read only through the unit that owns it
      continue;
    }
    const size_t child = i ^ (static_cast<size_t>(unit >> 10) << ((unit & 1U << 9) >> 6));
    const bool has_value = (unit >> 8 & 1) != 0;
    if ((child | 0xFF) >= units || (has_value && (unit_at(trie, child) & 0x7FFFFFFF) >= texts.size())) {
      return false;
    }
  }
  return true;
}

}  // namespace

/// uint32 size of the double array, the array, then texts that end in NUL.
void check_charsmap(std::string_view map, const std::string& source) {
  if (map.empty()) {
    return;
  }
  const bool has_size = map.size() > sizeof(uint32_t);
  const size_t trie_size = has_size ? unit_at(map, 0) : 0;
  const bool fits = has_size && trie_size < map.size() - sizeof(uint32_t);
  TORCH_CHECK(fits && trie_is_safe(map.substr(sizeof(uint32_t), trie_size), map.substr(sizeof(uint32_t) + trie_size)),
              source, ": not a SentencePiece model: its table of character rewrites is damaged");
}

namespace {

void check_piece(std::string_view bytes, const std::string& source) {
  for (MessageReader reader(bytes, source); !reader.done();) {
    const auto field = reader.next();
    if (field.number == kPieceScore && field.bytes.size() == sizeof(float)) {
      float score = 0;
      std::memcpy(&score, field.bytes.data(), sizeof(score));
      TORCH_CHECK(std::isfinite(score), source, ": not a SentencePiece model: the score of a piece is ", score);
    }
  }
}

void check_normalizer(std::string_view bytes, const std::string& source) {
  for (MessageReader reader(bytes, source); !reader.done();) {
    const auto field = reader.next();
    if (field.number == kPrecompiledCharsmap) {
      check_charsmap(field.bytes, source);
    }
  }
}

}  // namespace

void check_sentencepiece_model(std::string_view model, const std::string& source) {
  TORCH_CHECK(!model.empty(), source, ": expected a SentencePiece model, found an empty file");
  const auto foreign = foreign_format(model);
  TORCH_CHECK(foreign.empty(), source, ": expected a SentencePiece model or a rank file, found ", foreign);
  bool has_trainer = false;
  bool has_normalizer = false;
  for (MessageReader reader(model, source); !reader.done();) {
    const auto field = reader.next();
    has_trainer |= field.number == kTrainerSpec;
    has_normalizer |= field.number == kNormalizerSpec;
    if (field.number == kPieces) {
      check_piece(field.bytes, source);
    } else if (field.number == kNormalizerSpec || field.number == kDenormalizerSpec) {
      check_normalizer(field.bytes, source);
    }
  }
  // If a file was cut off between two fields, SentencePiece would use its defaults for the rest.
  TORCH_CHECK(has_trainer && has_normalizer, source,
              ": not a SentencePiece model: its trainer or normalizer settings are missing");
}

}  // namespace transformers::tokenization
