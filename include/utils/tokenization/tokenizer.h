#pragma once

/// \file
/// The room utils/tokenization turns texts into token ids and back, for the tokenizer files of Hugging Face,
/// SentencePiece and tiktoken, and writes conversations as prompts. It does not train tokenizers and does not know
/// models.
///
///     const auto tokenizer = load_tokenizer("llama-2-7b");
///     const std::vector<int64_t> ids = tokenizer->encode("The capital of France is");
///     const std::string text = tokenizer->decode(ids);

#include <transformers/export.h>
#include <transformers/utils/files/model_folder.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace at {
class Tensor;
}

namespace TRANSFORMERS_API transformers {

/// Decodes ids one at a time, as a model generates them. Each result consists of whole UTF-8 characters, and all
/// results together are exactly what `Tokenizer::decode` returns for all the ids. Mirrors HF `DecodeStream`.
class StreamingDecoder {
 public:
  virtual ~StreamingDecoder() = default;
  /// Returns the text that is complete; empty while a character, or a run of byte tokens, is incomplete.
  virtual std::string push(int64_t id) = 0;
  /// Returns the rest of the text, with unfinished bytes as U+FFFD. Call it once, after the last id.
  virtual std::string finish() = 0;
};

/// A token by its id, or a piece of plain text.
using PromptPart = std::variant<int64_t, std::string>;

/// Ids of the special tokens that the tokenizer has.
struct SpecialTokenIds {
  std::optional<int64_t> bos, eos, pad, unk;
};

/// Converts text to token ids and back. Accepts any bytes as text: invalid UTF-8 becomes U+FFFD. Thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Token ids of a text. With `add_special_tokens` also the tokens that the tokenizer adds around every text, such as
  /// a beginning-of-sequence token. Special tokens written in the text are recognised where HF does so.
  virtual std::vector<int64_t> encode(std::string_view text, bool add_special_tokens = true) const = 0;

  /// Token ids of a prompt of tokens and texts. Nothing is added, and special tokens written in a text stay plain text,
  /// so that a text cannot forge them.
  virtual std::vector<int64_t> encode_parts(const std::vector<PromptPart>& parts) const = 0;

  /// Text of the ids. Throws, naming the id, on one without a token. `skip_special_tokens` omits special tokens.
  std::string decode(std::span<const int64_t> ids, bool skip_special_tokens = true) const;
  /// The same for a tensor, int64 or int32 [n] on any device: `decode(output.sequences[0])`.
  std::string decode(const at::Tensor& ids, bool skip_special_tokens = true) const;

  /// A decoder for one text. It may outlive the tokenizer.
  virtual std::unique_ptr<StreamingDecoder> streaming_decoder(bool skip_special_tokens = true) const = 0;

  /// Number of tokens, added ones included; HF `len(tokenizer)`.
  virtual int64_t vocab_size() const = 0;
  virtual std::optional<int64_t> token_to_id(std::string_view token) const = 0;
  virtual std::optional<std::string> id_to_token(int64_t id) const = 0;
  /// True for tokens that `decode` omits with `skip_special_tokens`.
  virtual bool is_special(int64_t id) const = 0;
  virtual SpecialTokenIds special_token_ids() const = 0;
};

/// The tokenizer of a Hugging Face folder: tokenizer.json, else tokenizer.model (SentencePiece or tiktoken ranks), else
/// vocab.json with merges.txt; with tokenizer_config.json, special_tokens_map.json and added_tokens.json for special
/// and added tokens. Mirrors HF `AutoTokenizer.from_pretrained`.
std::shared_ptr<Tokenizer> load_tokenizer(const ModelFolder& folder);

}  // namespace transformers
