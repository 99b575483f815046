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

/// Turns ids into text one at a time, as a model writes them. Each result is whole UTF-8 characters, and all results
/// together are exactly what `Tokenizer::decode` makes of all the ids. Mirrors HF `DecodeStream`.
class StreamingDecoder {
 public:
  virtual ~StreamingDecoder() = default;
  /// The text that is certain now; empty while a character, or a run of byte tokens, is incomplete.
  virtual std::string push(int64_t id) = 0;
  /// What was held back, unfinished bytes as U+FFFD. Call it once, after the last id.
  virtual std::string finish() = 0;
};

/// A token by its id, or a stretch of plain text.
using PromptPart = std::variant<int64_t, std::string>;

/// Ids of the tokens with a meaning of their own, where the tokenizer has them.
struct SpecialTokenIds {
  std::optional<int64_t> bos, eos, pad, unk;
};

/// Text to token ids and back. Any bytes are taken as text: what is not UTF-8 becomes U+FFFD. Thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Token ids of a text. With `add_special_tokens` also those that the tokenizer puts around every text, such as a
  /// beginning-of-sequence token. Special tokens written in the text are recognised where HF does so.
  virtual std::vector<int64_t> encode(std::string_view text, bool add_special_tokens = true) const = 0;

  /// A prompt put together from tokens and texts. Nothing is added, and special tokens written in a text stay plain
  /// text: a text cannot pass for something else.
  virtual std::vector<int64_t> encode_parts(const std::vector<PromptPart>& parts) const = 0;

  /// Text of the ids; an id without a token is an error that names it. `skip_special_tokens` leaves special tokens out.
  std::string decode(std::span<const int64_t> ids, bool skip_special_tokens = true) const;
  /// The same of a tensor, int64 or int32 [n] on any device: `decode(output.sequences[0])`.
  std::string decode(const at::Tensor& ids, bool skip_special_tokens = true) const;

  /// A decoder for one text. It keeps what it needs of the tokenizer alive.
  virtual std::unique_ptr<StreamingDecoder> streaming_decoder(bool skip_special_tokens = true) const = 0;

  /// Number of tokens, added ones included; HF `len(tokenizer)`.
  virtual int64_t vocab_size() const = 0;
  virtual std::optional<int64_t> token_to_id(std::string_view token) const = 0;
  virtual std::optional<std::string> id_to_token(int64_t id) const = 0;
  /// True for tokens that `decode` leaves out with `skip_special_tokens`.
  virtual bool is_special(int64_t id) const = 0;
  virtual SpecialTokenIds special_token_ids() const = 0;
};

/// The tokenizer of a Hugging Face folder: tokenizer.json, else tokenizer.model (SentencePiece or tiktoken ranks), else
/// vocab.json with merges.txt; with tokenizer_config.json, special_tokens_map.json and added_tokens.json for special
/// and added tokens. Mirrors HF `AutoTokenizer.from_pretrained`.
std::shared_ptr<Tokenizer> load_tokenizer(const ModelFolder& folder);

}  // namespace transformers
