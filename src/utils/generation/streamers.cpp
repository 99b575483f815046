// Mirrors generation/streamers.py, transformers 5.23.0.
#include <ATen/ATen.h>
#include <transformers/utils/generation/streamers.h>
#include <transformers/utils/tokenization/tokenizer.h>

namespace transformers {

TextStreamer::TextStreamer(const std::shared_ptr<const Tokenizer>& tokenizer,
                           std::function<bool(std::string_view)> on_text, TextStreamerOptions options)
    : on_text_(std::move(on_text)), skips_next_(options.skip_prompt) {
  TORCH_CHECK(tokenizer != nullptr, "TextStreamer needs a tokenizer");
  decoder_ = tokenizer->streaming_decoder(options.skip_special_tokens);
}

TextStreamer::~TextStreamer() = default;

bool TextStreamer::hand_on(std::string_view text) {
  if (!text.empty()) {
    goes_on_ = on_text_(text);
  }
  return goes_on_;
}

bool TextStreamer::put(const at::Tensor& ids) {
  TORCH_CHECK(ids.dim() == 1 || ids.size(0) == 1, "TextStreamer takes one row at a time, got ids of shape ",
              ids.sizes());
  if (skips_next_) {
    skips_next_ = false;
    return true;
  }
  const auto flat = ids.flatten().contiguous();
  for (int64_t i = 0; i < flat.numel() && goes_on_; ++i) {
    hand_on(decoder_->push(flat.const_data_ptr<int64_t>()[i]));
  }
  return goes_on_;
}

void TextStreamer::end() {
  if (goes_on_) {
    hand_on(decoder_->finish());
  }
}

}  // namespace transformers
