#include <ATen/ATen.h>
#include <transformers/utils/generation/generate.h>

namespace transformers {

at::Tensor compute_transition_scores(const at::Tensor& sequences, const std::vector<at::Tensor>& scores,
                                     const at::Tensor& beam_indices, bool normalize_logits) {
  TORCH_CHECK(!scores.empty(),
              "compute_transition_scores needs the scores of at least one step; ask generate for them");
  const auto steps = static_cast<int64_t>(scores.size());
  auto stacked = at::stack(scores, 1);  // [rows, steps, vocab]
  if (normalize_logits) {
    stacked = stacked.log_softmax(-1);
  }
  const auto own_rows = at::arange(stacked.size(0), sequences.options()).unsqueeze(1).expand({-1, steps});
  auto rows = beam_indices.defined() ? beam_indices.to(at::kLong) : own_rows;
  const auto length = rows.ge(0).sum(-1).max().item<int64_t>();
  rows = rows.narrow(1, 0, length);
  const auto tokens = sequences.narrow(1, sequences.size(1) - length, length);
  const auto step = at::arange(length, sequences.options()).unsqueeze(0);
  return stacked.index({rows.clamp_min(0), step, tokens}).masked_fill(rows.lt(0), 0);
}

}  // namespace transformers
