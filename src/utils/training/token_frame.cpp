#include "utils/training/token_frame.h"

#include <c10/util/Exception.h>

namespace transformers {

TokenFrame TokenFrame::of(const Tokenizer& tokenizer) {
  TokenFrame frame;
  const auto bos = tokenizer.special_token_ids().bos;
  for (const auto id : tokenizer.encode("")) {
    (frame.after.empty() && id == bos ? frame.before : frame.after).push_back(id);
  }
  return frame;
}

std::vector<std::pair<size_t, size_t>> token_offsets(const Tokenizer& tokenizer, const std::vector<int64_t>& ids,
                                                     std::string_view text, const std::string& source) {
  std::vector<std::pair<size_t, size_t>> offsets;
  const auto decoder = tokenizer.streaming_decoder(/*skip_special_tokens=*/false);
  std::string decoded;
  size_t waiting = 0;  // tokens at the end whose character is not whole
  for (const auto id : ids) {
    const auto first = decoded.size();
    decoded += decoder->push(id);
    ++waiting;
    offsets.emplace_back(first, first);
    if (decoded.size() > first) {
      for (; waiting > 0; --waiting) {
        offsets[offsets.size() - waiting] = {first, decoded.size()};
      }
    }
  }
  decoded += decoder->finish();
  TORCH_CHECK(decoded == text, source,
              ": the tokenizer does not give the text back, so that places in it are not known");
  for (; waiting > 0; --waiting) {
    offsets[offsets.size() - waiting].second = decoded.size();
  }
  return offsets;
}

}  // namespace transformers
