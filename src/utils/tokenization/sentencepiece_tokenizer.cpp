// SentencePiece models (tokenizer.model) with the added tokens of tokenizer_config.json, after HF `LlamaTokenizer`.
// Streaming decodes a short window of pieces; once there is text, one anchor piece stands for everything before it.
#include <c10/util/Exception.h>
#include <transformers/utils/tokenization/sentencepiece_tokenizer.h>

#include <algorithm>

#include "utils/files/internal/regular_file.h"
#include "utils/text/byte_level.h"
#include "utils/text/printable.h"
#include "utils/text/utf8.h"
#include "utils/tokenization/added_tokens.h"
#include "utils/tokenization/sentencepiece_library.h"
#include "utils/tokenization/sentencepiece_model.h"
#include "utils/tokenization/side_tokens.h"
#include "utils/tokenization/tokenizer_config.h"

namespace transformers {

using tokenization::AddedToken;

/// SentencePiece's processor, and the tokens that the config adds after its pieces.
struct SentencePieceTokenizer::Model {
  std::unique_ptr<tokenization::SentencePieceProcessor> processor = tokenization::make_sentencepiece_processor();
  int anchor = 0;  // a piece with a text
  size_t anchor_text_size = 0;
  tokenization::AddedTokens added{{}, {}};
  std::vector<int64_t> prefix, suffix;
  SpecialTokenIds special;

  bool is_piece(int64_t id) const { return id >= 0 && id < processor->piece_size(); }
  bool is_control(int64_t id) const { return is_piece(id) && processor->is_control(static_cast<int>(id)); }
  std::optional<int64_t> token_to_id(std::string_view token) const;
  std::optional<std::string> id_to_token(int64_t id) const;
  bool is_special(int64_t id) const;
  std::string decode(const std::vector<int>& pieces) const;
  void encode_text(std::string_view text, const tokenization::AddedTokens::IsRead& is_read,
                   std::vector<int64_t>& ids) const;

  void load(const std::string& path);
  void find_anchor(const std::string& path);
  void add_tokens(std::vector<AddedToken> tokens, const std::string& path);
  void settle(const tokenization::TokenizerConfig& config);
};

namespace {

/// Passes only as many pieces to the library as it needs. Once there is text, later pieces depend only on not being at
/// its start, and any one piece before them ensures that.
class SentencePieceStream : public StreamingDecoder {
 public:
  SentencePieceStream(std::shared_ptr<const SentencePieceTokenizer::Model> model, bool skip_special_tokens)
      : model_(std::move(model)), skip_special_tokens_(skip_special_tokens) {}

  std::string push(int64_t id) override {
    const auto token = model_->id_to_token(id);
    TORCH_CHECK(token, "decode: there is no token with id ", id);
    if (model_->is_special(id) && skip_special_tokens_) {
      return emit(window_.size());
    }
    if (model_->is_control(id) || !model_->is_piece(id)) {
      return finish() + *token;
    }
    window_.push_back(static_cast<int>(id));
    const auto byte = tokenization::byte_of_token(*token);
    if (!byte || !model_->processor->is_byte(window_.back())) {
      bytes_.clear();
      return emit(window_.size());
    }
    bytes_ += *byte;
    return emit(window_.size() - (bytes_.size() - tokenization::finished_length(bytes_)));
  }

  std::string finish() override {
    auto text = emit(window_.size());
    window_.clear();
    emitted_ = 0;
    return text;
  }

 private:
  /// The text of the first `count` pieces of the window that was not returned yet.
  std::string emit(size_t count) {
    const auto text = model_->decode({window_.begin(), window_.begin() + static_cast<std::ptrdiff_t>(count)});
    auto fresh = text.substr(emitted_);
    emitted_ = text.size();
    if (count == window_.size()) {
      shorten();
    }
    return fresh;
  }

  void shorten() {
    bytes_.clear();
    if (emitted_ > 0) {
      window_ = {model_->anchor};
      emitted_ = model_->anchor_text_size;
    } else if (window_.size() > 1) {
      window_.pop_back();  // removes one more space at the start, which does not count
    }
  }

  std::shared_ptr<const SentencePieceTokenizer::Model> model_;
  bool skip_special_tokens_;
  std::vector<int> window_;
  std::string bytes_;   // of the byte pieces at the end of the window, as far as a character is incomplete
  size_t emitted_ = 0;  // the number of bytes of the window's text that were returned
};

}  // namespace

std::optional<int64_t> SentencePieceTokenizer::Model::token_to_id(std::string_view token) const {
  if (const auto* found = added.find(std::string(token))) {
    return found->id;
  }
  // The library returns the unknown piece if there is no piece of that name.
  const int id = processor->piece_to_id(token);
  return is_piece(id) && processor->id_to_piece(id) == token ? std::optional<int64_t>(id) : std::nullopt;
}

std::optional<std::string> SentencePieceTokenizer::Model::id_to_token(int64_t id) const {
  if (is_piece(id)) {
    return processor->id_to_piece(static_cast<int>(id));
  }
  const auto* token = added.find(id);
  return token == nullptr ? std::nullopt : std::optional(token->content);
}

bool SentencePieceTokenizer::Model::is_special(int64_t id) const {
  const auto* token = added.find(id);
  return is_control(id) || (token != nullptr && token->special);
}

std::string SentencePieceTokenizer::Model::decode(const std::vector<int>& pieces) const {
  std::string text;
  const auto problem = processor->decode(pieces, text);
  TORCH_CHECK(problem.empty(), "SentencePiece cannot decode: ", printable(problem));
  return text;
}

void SentencePieceTokenizer::Model::encode_text(std::string_view text, const tokenization::AddedTokens::IsRead& is_read,
                                                std::vector<int64_t>& ids) const {
  const auto valid = tokenization::valid_utf8(text);
  for (const auto& segment : added.split(valid, /*normalized=*/false, is_read)) {
    if (segment.token != nullptr) {
      ids.push_back(segment.token->id);
      continue;
    }
    std::vector<int> pieces;
    const auto problem = processor->encode(segment.text, pieces);
    TORCH_CHECK(problem.empty(), "SentencePiece cannot encode: ", printable(problem));
    ids.insert(ids.end(), pieces.begin(), pieces.end());
  }
}

void SentencePieceTokenizer::Model::load(const std::string& path) {
  const auto bytes = read_regular_file(path, tokenization::kMaxTokenizerBytes);
  tokenization::check_sentencepiece_model(bytes, printable(path));
  const auto problem = processor->load(bytes);
  TORCH_CHECK(problem.empty(), printable(path), ": not a SentencePiece model: ", printable(problem));
  find_anchor(path);
}

void SentencePieceTokenizer::Model::find_anchor(const std::string& path) {
  for (int id = 0; id < processor->piece_size(); ++id) {
    const bool is_text = !processor->is_control(id) && !processor->is_byte(id);
    if (const auto text = is_text ? decode({id}) : std::string(); !text.empty()) {
      anchor = id;
      anchor_text_size = text.size();
      return;
    }
  }
  TORCH_CHECK(false, printable(path), ": not a SentencePiece model: none of its pieces has a text");
}

void SentencePieceTokenizer::Model::add_tokens(std::vector<AddedToken> tokens, const std::string& path) {
  for (auto& token : tokens) {
    const auto piece = is_piece(token.id) ? processor->id_to_piece(static_cast<int>(token.id)) : token.content;
    TORCH_CHECK(piece == token.content, path, ": the added token ", printable(token.content), " has id ", token.id,
                ", which tokenizer.model gives to ", printable(piece));
    token.normalized = false;
  }
  // Control pieces that occur in a text remain plain text, as with SentencePiece.
  std::erase_if(tokens, [this](const AddedToken& token) { return is_piece(token.id); });
  added = tokenization::AddedTokens(std::move(tokens), {});
  for (const auto& token : added.tokens()) {
    TORCH_CHECK(added.find(token.id) == &token && token_to_id(token.content) == token.id, path, ": the added token ",
                printable(token.content), " or its id ", token.id, " is given twice");
  }
}

void SentencePieceTokenizer::Model::settle(const tokenization::TokenizerConfig& config) {
  const auto id_of = [&](const std::optional<std::string>& token, int otherwise) -> std::optional<int64_t> {
    return token ? token_to_id(*token) : otherwise >= 0 ? std::optional<int64_t>(otherwise) : std::nullopt;
  };
  special = {.bos = id_of(config.bos_token, processor->bos_id()),
             .eos = id_of(config.eos_token, processor->eos_id()),
             .pad = id_of(config.pad_token, processor->pad_id()),
             .unk = id_of(config.unk_token, processor->unk_id())};
  // HF's LlamaTokenizer adds BOS unless its config says otherwise.
  const bool is_llama = config.tokenizer_class.starts_with("LlamaTokenizer");
  if (config.add_bos_token.value_or(is_llama) && special.bos) {
    prefix.push_back(*special.bos);
  }
  if (config.add_eos_token.value_or(false) && special.eos) {
    suffix.push_back(*special.eos);
  }
}

std::shared_ptr<SentencePieceTokenizer> SentencePieceTokenizer::from_folder(const ModelFolder& folder) {
  auto model = std::make_shared<Model>();
  model->load(folder.file("tokenizer.model"));
  const auto config = tokenization::read_tokenizer_config(folder);
  const tokenization::BaseVocabulary pieces{model->processor->piece_size(),
                                            [&](std::string_view text) { return model->token_to_id(text); }};
  model->add_tokens(tokenization::with_side_tokens(config.added_tokens, config, pieces), printable(config.path));
  model->settle(config);
  return std::make_shared<SentencePieceTokenizer>(std::move(model));
}

std::vector<int64_t> SentencePieceTokenizer::encode(std::string_view text, bool add_special_tokens) const {
  std::vector<int64_t> ids;
  if (add_special_tokens) {
    ids = model_->prefix;
  }
  model_->encode_text(text, tokenization::AddedTokens::is_read_always, ids);
  if (add_special_tokens) {
    ids.insert(ids.end(), model_->suffix.begin(), model_->suffix.end());
  }
  return ids;
}

std::vector<int64_t> SentencePieceTokenizer::encode_parts(const std::vector<PromptPart>& parts) const {
  const auto may_be_written = model_->added.writable_beside(parts);
  std::vector<int64_t> ids;
  for (const auto& part : parts) {
    if (const auto* id = std::get_if<int64_t>(&part)) {
      TORCH_CHECK(model_->id_to_token(*id), "encode_parts: there is no token with id ", *id);
      ids.push_back(*id);
    } else {
      model_->encode_text(std::get<std::string>(part), may_be_written, ids);
    }
  }
  return ids;
}

std::unique_ptr<StreamingDecoder> SentencePieceTokenizer::streaming_decoder(bool skip_special_tokens) const {
  return std::make_unique<SentencePieceStream>(model_, skip_special_tokens);
}

int64_t SentencePieceTokenizer::vocab_size() const {
  return model_->processor->piece_size() + static_cast<int64_t>(model_->added.tokens().size());
}

std::optional<int64_t> SentencePieceTokenizer::token_to_id(std::string_view token) const {
  return model_->token_to_id(token);
}

std::optional<std::string> SentencePieceTokenizer::id_to_token(int64_t id) const { return model_->id_to_token(id); }

bool SentencePieceTokenizer::is_special(int64_t id) const { return model_->is_special(id); }

SpecialTokenIds SentencePieceTokenizer::special_token_ids() const { return model_->special; }

}  // namespace transformers
