#pragma once

#include <transformers/export.h>
#include <transformers/utils/files/model_folder.h>
#include <transformers/utils/tokenization/tokenizer.h>

namespace TRANSFORMERS_API transformers {

/// A tokenizer.json with a BPE model, byte-level (GPT-2, GPT-J, SmolLM2, LLaMA 3) or SentencePiece-like with byte
/// fallback (LLaMA 2, TinyLlama), or with a Unigram model. Throws, naming it, on a component that is not implemented.
/// Mirrors HF `tokenizers.Tokenizer`; `truncation` and `padding` of the file are ignored.
class BpeTokenizer : public Tokenizer {
 public:
  /// `folder` holds tokenizer.json, at most 64 MB.
  static std::shared_ptr<BpeTokenizer> from_tokenizer_json(const ModelFolder& folder);
  /// `folder` holds vocab.json and merges.txt, as GPT-2 and GPT-J were published. Mirrors HF `GPT2Tokenizer`.
  static std::shared_ptr<BpeTokenizer> from_vocab_and_merges(const ModelFolder& folder);
  /// `folder` holds a tokenizer.model of tiktoken's form: one line `base64(bytes) rank` per token. Texts are split by
  /// LLaMA 3's regex, and special tokens come from tokenizer_config.json, as in HF `TikTokenConverter`.
  static std::shared_ptr<BpeTokenizer> from_rank_file(const ModelFolder& folder);

  std::vector<int64_t> encode(std::string_view text, bool add_special_tokens = true) const override;
  std::vector<int64_t> encode_parts(const std::vector<PromptPart>& parts) const override;
  std::unique_ptr<StreamingDecoder> streaming_decoder(bool skip_special_tokens = true) const override;
  int64_t vocab_size() const override;
  std::optional<int64_t> token_to_id(std::string_view token) const override;
  std::optional<std::string> id_to_token(int64_t id) const override;
  bool is_special(int64_t id) const override;
  SpecialTokenIds special_token_ids() const override;

  struct TRANSFORMERS_PRIVATE Pipeline;
  explicit BpeTokenizer(std::shared_ptr<const Pipeline> pipeline) : pipeline_(std::move(pipeline)) {}

 private:
  std::shared_ptr<const Pipeline> pipeline_;
};

}  // namespace transformers
