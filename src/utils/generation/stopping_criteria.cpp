// Mirrors generation/stopping_criteria.py, transformers 5.23.0. Deviation: stop strings are looked for in the decoded
// text of the last tokens, where HF matches each token's own text.
#include <ATen/ATen.h>
#include <transformers/utils/generation/stopping_criteria.h>
#include <transformers/utils/tokenization/tokenizer.h>

#include <algorithm>
#include <ranges>

namespace transformers {
namespace {

at::Tensor every_row(const at::Tensor& input_ids, bool done) {
  return at::full({input_ids.size(0)}, done, input_ids.options().dtype(at::kBool));
}

}  // namespace

at::Tensor MaxLengthCriteria::operator()(const at::Tensor& input_ids, const std::vector<at::Tensor>&) {
  return every_row(input_ids, input_ids.size(1) >= max_length_);
}

at::Tensor MaxTimeCriteria::operator()(const at::Tensor& input_ids, const std::vector<at::Tensor>&) {
  return every_row(input_ids, std::chrono::steady_clock::now() - start_ > max_time_);
}

EosTokenCriteria::EosTokenCriteria(const std::vector<int64_t>& eos_token_id)
    : eos_token_id_(at::tensor(eos_token_id, at::kLong)) {}

at::Tensor EosTokenCriteria::operator()(const at::Tensor& input_ids, const std::vector<at::Tensor>&) {
  eos_token_id_ = eos_token_id_.to(input_ids.device());
  return at::isin(input_ids.select(1, -1), eos_token_id_);
}

StopStringCriteria::StopStringCriteria(std::shared_ptr<const Tokenizer> tokenizer,
                                       std::vector<std::string> stop_strings)
    : tokenizer_(std::move(tokenizer)), stop_strings_(std::move(stop_strings)) {
  TORCH_CHECK(tokenizer_ != nullptr, "stop_strings need the model's tokenizer, none was given");
  TORCH_CHECK(!stop_strings_.empty(), "stop_strings must hold at least one string");
  for (const auto& stop : stop_strings_) {
    TORCH_CHECK(!stop.empty(), "stop_strings must not hold an empty string");
    // A token has at least one byte. One more token is needed because decoders strip a space before the first.
    tail_length_ = std::max(tail_length_, static_cast<int64_t>(stop.size()) + 1);
  }
}

bool StopStringCriteria::ends_row(const std::vector<int64_t>& tail) const {
  const auto has_text = [&](int64_t id) { return tokenizer_->id_to_token(id).has_value(); };
  // Ids without a token, which models with a padded vocabulary can produce, separate texts.
  const auto first = std::ranges::find_if_not(std::views::reverse(tail), has_text).base();
  if (first == tail.end()) {
    return false;
  }
  const std::vector<int64_t> ids(first, tail.end());
  const std::span<const int64_t> all(ids);
  const auto text = tokenizer_->decode(all, /*skip_special_tokens=*/false);
  const auto before = tokenizer_->decode(all.first(all.size() - 1), /*skip_special_tokens=*/false);
  const auto old = static_cast<size_t>(std::ranges::mismatch(before, text).in2 - text.begin());
  return std::ranges::any_of(stop_strings_, [&](const std::string& stop) {
    const auto earliest = old + 1 > stop.size() ? old + 1 - stop.size() : 0;  // ends within the new part
    return text.find(stop, earliest) != std::string::npos;
  });
}

at::Tensor StopStringCriteria::operator()(const at::Tensor& input_ids, const std::vector<at::Tensor>&) {
  const auto length = std::min(tail_length_, input_ids.size(1));
  const auto tails = input_ids.slice(1, input_ids.size(1) - length).to(at::kCPU).contiguous();
  auto done = at::zeros({input_ids.size(0)}, at::kBool);
  for (int64_t row = 0; row < input_ids.size(0); ++row) {
    const auto* ids = tails.const_data_ptr<int64_t>() + row * length;
    done[row] = ends_row({ids, ids + length});
  }
  return done.to(input_ids.device());
}

}  // namespace transformers
