#pragma once

#include <string>
#include <variant>
#include <vector>

#include "utils/text/pattern.h"
#include "utils/tokenization/json_node.h"
#include "utils/tokenization/pre_tokenizer.h"

namespace transformers::tokenization {

/// A part of the text between two decoder steps. Steps that join tokens pass them on in several fragments, of which
/// only the first starts a token.
struct Fragment {
  std::string text;
  bool starts_token = true;
};
using Fragments = std::vector<Fragment>;

/// The following steps are HF's decoders in a form that takes tokens one at a time: everything that `push` and `finish`
/// append to `out` together equals the result of HF's `decode_chain` for all tokens at once. Copying a step copies its
/// state.
struct ReplaceStep {
  Pattern pattern;
  std::string content;
  void push(const Fragment& token, Fragments& out) const;
  void finish(Fragments&) const {}
};

/// Consecutive `<0xE2>` tokens are the bytes of one text. HF decodes such a run as a whole, so it is held back until it
/// ends.
struct ByteFallbackStep {
  std::string run;
  void push(const Fragment& token, Fragments& out);
  void finish(Fragments& out);
};

struct FuseStep {
  bool started = false;
  void push(const Fragment& fragment, Fragments& out);
  void finish(Fragments&) const {}
};

/// Removes `content` up to `count` times from the start of each token.
struct StripStep {
  std::string content;
  int64_t count;
  int64_t remaining = 0;
  void push(const Fragment& fragment, Fragments& out);
  void finish(Fragments&) const {}
};

struct ByteLevelStep {
  std::string unfinished;
  bool started = false;
  void push(const Fragment& token, Fragments& out);
  void finish(Fragments& out);

 private:
  void emit(size_t length, Fragments& out);
};

struct MetaspaceStep {
  Metaspace metaspace;
  int64_t tokens = 0;
  void push(const Fragment& fragment, Fragments& out);
  void finish(Fragments&) const {}
};

/// HF's behaviour without a decoder: a space between tokens.
struct SpacesStep {
  bool started = false;
  void push(const Fragment& token, Fragments& out);
  void finish(Fragments&) const {}
};

using DecoderStep =
    std::variant<ReplaceStep, ByteFallbackStep, FuseStep, StripStep, ByteLevelStep, MetaspaceStep, SpacesStep>;

/// Turns tokens into text and holds back text that a later token may change. Copy it to begin a new text.
class Decoder {
 public:
  explicit Decoder(std::vector<DecoderStep> steps) : steps_(std::move(steps)) {}

  std::string push(std::string token);
  std::string finish();

 private:
  std::string run(Fragments fragments, bool finishing);

  std::vector<DecoderStep> steps_;
  size_t held_ = 0;  // bytes of all tokens so far, an upper limit of what steps hold back
};

/// The `decoder` of a tokenizer.json: `Sequence`, `ByteLevel`, `Replace`, `ByteFallback`, `Fuse`, `Strip`, `Metaspace`.
Decoder make_decoder(const JsonNode& node);
/// The decoder for rank files.
Decoder make_byte_level_decoder();
/// The decoder for a file without one.
Decoder make_spaces_decoder();

}  // namespace transformers::tokenization
