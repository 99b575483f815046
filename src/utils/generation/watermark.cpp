// Mirrors WatermarkLogitsProcessor of generation/logits_process.py, transformers 5.23.0.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <transformers/utils/generation/logits_process.h>

#include <algorithm>

namespace transformers {
namespace {

constexpr int64_t kTableSize = 1000003;

/// Python's seed % (2^64 − 1).
uint64_t as_seed(int64_t seed) { return seed >= 0 ? static_cast<uint64_t>(seed) : static_cast<uint64_t>(seed) - 1; }

}  // namespace

WatermarkLogitsProcessor::WatermarkLogitsProcessor(int64_t vocab_size, const WatermarkingConfig& config)
    : vocab_size_(vocab_size),
      config_(config),
      generator_(at::detail::createCPUGenerator(as_seed(config.hashing_key))),
      fixed_table_(at::randperm(kTableSize, generator_, at::kLong)) {}

at::Tensor WatermarkLogitsProcessor::greenlist(const at::Tensor& text) {
  const auto last = text.slice(0, -1);
  auto seed = last * config_.hashing_key;
  if (config_.self_hash) {
    const auto hashed = [&](const at::Tensor& ids) {
      return fixed_table_.index_select(0, ids.remainder(kTableSize)) + 1;
    };
    seed = (hashed(text.slice(0, -config_.context_width)) * config_.hashing_key * hashed(last)).min();
  }
  generator_.set_current_seed(as_seed(seed.item<int64_t>()));
  const auto size = static_cast<int64_t>(static_cast<double>(vocab_size_) * config_.greenlist_ratio);
  return at::randperm(vocab_size_, generator_, at::kLong).narrow(0, 0, size);
}

at::Tensor WatermarkLogitsProcessor::self_hashed_greenlist(const at::Tensor& text, const at::Tensor& scores) {
  constexpr int64_t tried = 40;
  const auto best = std::get<1>(scores.sort(/*dim=*/-1, /*descending=*/true)).to(at::kCPU);
  std::vector<int64_t> preferred;
  for (int64_t i = 0; i < std::min(tried, vocab_size_); ++i) {
    const auto candidate = best.narrow(0, i, 1);
    if (greenlist(at::cat({text, candidate})).eq(candidate).any().item<bool>()) {
      preferred.push_back(candidate.item<int64_t>());
    }
  }
  return at::tensor(preferred, at::kLong);
}

at::Tensor WatermarkLogitsProcessor::operator()(const at::Tensor& input_ids, const at::Tensor& scores) {
  if (input_ids.size(1) < config_.context_width) {
    TORCH_WARN_ONCE("watermarking starts when the text has ", config_.context_width, " tokens");
    return scores;
  }
  auto marked = scores.clone();
  const auto texts = input_ids.to(at::kCPU);
  for (int64_t row = 0; row < texts.size(0); ++row) {
    const auto preferred = config_.self_hash ? self_hashed_greenlist(texts[row], scores[row]) : greenlist(texts[row]);
    auto row_scores = marked[row];
    row_scores.index_put_({preferred.to(scores.device())},
                          row_scores.index({preferred.to(scores.device())}) + config_.bias);
  }
  return marked;
}

}  // namespace transformers
