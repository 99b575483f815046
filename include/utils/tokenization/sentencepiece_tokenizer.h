#pragma once

#include <transformers/export.h>
#include <transformers/utils/files/model_folder.h>
#include <transformers/utils/tokenization/tokenizer.h>

namespace TRANSFORMERS_API transformers {

/// A tokenizer.model of SentencePiece (LLaMA 2, Mistral). Ids are those of SentencePiece's `Encode`; BOS and EOS are
/// added as tokenizer_config.json says. Control tokens written in a text are plain text. Mirrors HF `LlamaTokenizer`.
class SentencePieceTokenizer : public Tokenizer {
 public:
  /// `folder` holds tokenizer.model, at most 64 MB.
  static std::shared_ptr<SentencePieceTokenizer> from_folder(const ModelFolder& folder);

  std::vector<int64_t> encode(std::string_view text, bool add_special_tokens = true) const override;
  /// Each text is encoded separately, so each gets its own leading ▁ if the model adds one.
  std::vector<int64_t> encode_parts(const std::vector<PromptPart>& parts) const override;
  /// Without `skip_special_tokens`, a control token is written as its name, and the text between two control tokens is
  /// decoded separately.
  std::unique_ptr<StreamingDecoder> streaming_decoder(bool skip_special_tokens = true) const override;
  int64_t vocab_size() const override;
  std::optional<int64_t> token_to_id(std::string_view token) const override;
  std::optional<std::string> id_to_token(int64_t id) const override;
  bool is_special(int64_t id) const override;
  SpecialTokenIds special_token_ids() const override;

  struct TRANSFORMERS_PRIVATE Model;
  explicit SentencePieceTokenizer(std::shared_ptr<const Model> model) : model_(std::move(model)) {}

 private:
  std::shared_ptr<const Model> model_;
};

}  // namespace transformers
