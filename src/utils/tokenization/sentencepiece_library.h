#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace transformers::tokenization {

/// SentencePiece's processor (sentencepiece_processor.h, 0.1.97), from a library that is loaded in isolation.
///
/// Debian's libsentencepiece exports abseil's flags, among them an object `FLAGS_minloglevel`; LibTorch's libc10
/// exports an int of that name. Linked together, SentencePiece's constructor writes its object over libc10's data,
/// after which a failed allocation ends the process. Therefore this library does not link SentencePiece. A plug-in
/// does, whose symbols resolve to each other first and are invisible to everything else.
class SentencePieceProcessor {
 public:
  virtual ~SentencePieceProcessor() = default;

  /// Loads a model. Returns an error message; empty on success.
  virtual std::string load(std::string_view model) = 0;
  virtual int piece_size() const = 0;
  virtual bool is_control(int id) const = 0;
  virtual bool is_byte(int id) const = 0;
  /// −1 where the model has none.
  virtual int bos_id() const = 0;
  virtual int eos_id() const = 0;
  virtual int pad_id() const = 0;
  virtual int unk_id() const = 0;
  /// Returns the id of the unknown piece when there is no such piece.
  virtual int piece_to_id(std::string_view piece) const = 0;
  virtual std::string id_to_piece(int id) const = 0;
  /// Both return an error message; empty on success.
  virtual std::string encode(std::string_view text, std::vector<int>& ids) const = 0;
  virtual std::string decode(const std::vector<int>& ids, std::string& text) const = 0;
};

/// Throws when the plug-in, which is in the folder of this library, cannot be loaded.
std::unique_ptr<SentencePieceProcessor> make_sentencepiece_processor();

}  // namespace transformers::tokenization
