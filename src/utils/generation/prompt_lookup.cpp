// Mirrors `PromptLookupCandidateGenerator` of generation/candidate_generator.py, transformers 5.23.0.
#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "utils/generation/draft.h"

namespace transformers {

/// The tokens that a processor forbids end a draft. Processors are asked with equal scores for all tokens.
std::vector<int64_t> PromptLookup::allowed(const std::vector<int64_t>& ids, std::vector<int64_t> drafted) const {
  if (plan_.logits_processors.empty()) {
    return drafted;
  }
  auto text = at::tensor(ids, plan_.input_ids.options()).unsqueeze(0);
  const auto equal = at::ones({1, config_.vocab_size}, text.options().dtype(at::kFloat));
  for (size_t i = 0; i < drafted.size(); ++i) {
    const auto score = process(plan_, text, equal.clone())[0][drafted[i]].item<float>();
    if (score <= std::numeric_limits<float>::lowest()) {
      drafted.resize(i);
      break;
    }
    text = at::cat({text, at::full({1, 1}, drafted[i], text.options())}, 1);
  }
  return drafted;
}

/// What followed the first earlier occurrence of the last `ngram` ids, of those that something allowed follows.
std::vector<int64_t> PromptLookup::continuation(const std::vector<int64_t>& ids, size_t ngram) const {
  const auto wanted = ids.end() - static_cast<std::ptrdiff_t>(ngram);
  const auto most = std::min(static_cast<size_t>(*plan_.drafts.prompt_lookup_num_tokens), ids.size());
  const auto next_match = [&](auto from) { return std::search(from, ids.end() - 1, wanted, ids.end()); };
  for (auto match = next_match(ids.begin()); match < wanted; match = next_match(match + 1)) {
    const auto begin = match + static_cast<std::ptrdiff_t>(ngram);
    const auto count = std::min(most, static_cast<size_t>(ids.end() - begin));
    auto drafted = allowed(ids, {begin, begin + static_cast<std::ptrdiff_t>(count)});
    if (!drafted.empty()) {
      return drafted;
    }
  }
  return {};
}

Draft PromptLookup::draft(const at::Tensor& text) {
  const auto on_cpu = text.to(at::kCPU).contiguous();
  const std::vector<int64_t> ids(on_cpu.const_data_ptr<int64_t>(), on_cpu.const_data_ptr<int64_t>() + on_cpu.numel());
  const auto longest = std::min(static_cast<size_t>(plan_.drafts.max_matching_ngram_size), ids.size() - 1);
  std::vector<int64_t> drafted;
  for (size_t ngram = longest; drafted.empty() && ngram > 0; --ngram) {
    drafted = continuation(ids, ngram);
  }
  const auto& ends = plan_.eos_token_id;
  drafted.erase(std::ranges::find_first_of(drafted, ends), drafted.end());
  const auto length = static_cast<int64_t>(ids.size());
  if (length + 1 >= plan_.max_length) {  // the model itself gives the last token
    drafted.clear();
  }
  if (config_.has_last_position()) {
    const auto free = std::max<int64_t>(0, config_.get_max_position_embeddings() - length);
    drafted.resize(std::min(drafted.size(), static_cast<size_t>(free)));
  }
  return {.ids = at::tensor(drafted, text.options()), .scores = {}};
}

}  // namespace transformers
