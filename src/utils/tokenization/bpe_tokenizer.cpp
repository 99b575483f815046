#include <c10/util/Exception.h>
#include <transformers/utils/tokenization/bpe_tokenizer.h>

#include "utils/text/utf8.h"
#include "utils/tokenization/bpe_pipeline.h"

namespace transformers {
namespace {

using tokenization::is_whitespace;

class BpeStreamingDecoder : public StreamingDecoder {
 public:
  BpeStreamingDecoder(std::shared_ptr<const BpeTokenizer::Pipeline> pipeline, bool skip_special_tokens)
      : pipeline_(std::move(pipeline)), decoder_(pipeline_->decoder), skip_special_tokens_(skip_special_tokens) {}

  std::string push(int64_t id) override {
    const auto* token = pipeline_->id_to_token(id);
    TORCH_CHECK(token != nullptr, "decode: there is no token with id ", id);
    return skip_special_tokens_ && pipeline_->added.is_special(*token) ? std::string() : decoder_.push(*token);
  }

  std::string finish() override { return decoder_.finish(); }

 private:
  std::shared_ptr<const BpeTokenizer::Pipeline> pipeline_;
  tokenization::Decoder decoder_;
  bool skip_special_tokens_;
};

/// The added token that a part is; null if it is none.
const tokenization::AddedToken* added_token(const BpeTokenizer::Pipeline& pipeline, const PromptPart& part) {
  const auto* id = std::get_if<int64_t>(&part);
  return id == nullptr ? nullptr : pipeline.added.find(*id);
}

std::string_view without_leading_space(std::string_view text) {
  while (!text.empty() && is_whitespace(tokenization::first_character(text).code)) {
    text.remove_prefix(tokenization::first_character(text).length);
  }
  return text;
}

std::string_view without_trailing_space(std::string_view text) {
  while (!text.empty() && is_whitespace(tokenization::last_character(text).code)) {
    text.remove_suffix(tokenization::last_character(text).length);
  }
  return text;
}

}  // namespace

std::vector<int64_t> BpeTokenizer::encode(std::string_view text, bool add_special_tokens) const {
  std::vector<int64_t> ids;
  if (add_special_tokens) {
    ids = pipeline_->prefix;
  }
  pipeline_->encode_text(tokenization::valid_utf8(text), /*at_start=*/true, tokenization::AddedTokens::is_read_always,
                         ids);
  if (add_special_tokens) {
    ids.insert(ids.end(), pipeline_->suffix.begin(), pipeline_->suffix.end());
  }
  return ids;
}

std::vector<int64_t> BpeTokenizer::encode_parts(const std::vector<PromptPart>& parts) const {
  const auto may_be_written = pipeline_->added.writable_beside(parts);
  std::vector<int64_t> ids;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (const auto* id = std::get_if<int64_t>(&parts[i])) {
      TORCH_CHECK(pipeline_->id_to_token(*id) != nullptr, "encode_parts: there is no token with id ", *id);
      ids.push_back(*id);
      continue;
    }
    // Tokens with rstrip or lstrip swallow the white space beside them, as they do when found in a text.
    const auto valid = tokenization::valid_utf8(std::get<std::string>(parts[i]));
    std::string_view text = valid;
    if (const auto* before = i > 0 ? added_token(*pipeline_, parts[i - 1]) : nullptr; before && before->rstrip) {
      text = without_leading_space(text);
    }
    if (const auto* after = i + 1 < parts.size() ? added_token(*pipeline_, parts[i + 1]) : nullptr;
        after && after->lstrip) {
      text = without_trailing_space(text);
    }
    pipeline_->encode_text(text, /*at_start=*/i == 0, may_be_written, ids);
  }
  return ids;
}

std::unique_ptr<StreamingDecoder> BpeTokenizer::streaming_decoder(bool skip_special_tokens) const {
  return std::make_unique<BpeStreamingDecoder>(pipeline_, skip_special_tokens);
}

int64_t BpeTokenizer::vocab_size() const {
  auto size = static_cast<int64_t>(pipeline_->model->vocab_size());
  for (const auto& token : pipeline_->added.tokens()) {
    size += !pipeline_->model->token_to_id(token.content).has_value();
  }
  return size;
}

std::optional<int64_t> BpeTokenizer::token_to_id(std::string_view token) const { return pipeline_->token_to_id(token); }

std::optional<std::string> BpeTokenizer::id_to_token(int64_t id) const {
  if (const auto* added = pipeline_->added.find(id)) {
    return added->content;
  }
  const auto* token = pipeline_->id_to_token(id);
  return token == nullptr ? std::nullopt : std::optional(*token);
}

bool BpeTokenizer::is_special(int64_t id) const {
  const auto* token = pipeline_->id_to_token(id);
  return token != nullptr && pipeline_->added.is_special(*token);
}

SpecialTokenIds BpeTokenizer::special_token_ids() const { return pipeline_->special; }

}  // namespace transformers
