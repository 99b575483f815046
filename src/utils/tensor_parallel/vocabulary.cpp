#include <ATen/ATen.h>
#include <transformers/utils/modeling/losses.h>
#include <transformers/utils/tensor_parallel/parallel_linear.h>

#include <optional>
#include <utility>

#include "utils/modeling/internal/chunked_cross_entropy.h"

namespace transformers {
namespace {

/// Ids relative to the start of the part; ids outside of it become 0.
struct LocalIds {
  LocalIds(const at::Tensor& ids, const Part& part) {
    const auto from_start = ids - part.start;
    outside = from_start.lt(0).logical_or_(from_start.ge(part.length));
    ids_inside = from_start.masked_fill_(outside, 0);
  }
  at::Tensor ids_inside, outside;
};

void check_labels(const at::Tensor& labels, int64_t vocabulary) {
  if (!labels.is_cpu() || labels.numel() == 0) {
    return;
  }
  const auto [low, high] = at::aminmax(labels.where(labels.ne(kIgnoreIndex), 0));
  TORCH_CHECK(low.item<int64_t>() >= 0 && high.item<int64_t>() < vocabulary, "labels must be ", kIgnoreIndex,
              " or in [0, ", vocabulary, "), got values from ", low.item<int64_t>(), " to ", high.item<int64_t>());
}

/// A chunk's loss where every rank has logits [rows, part] of its tokens.
ChunkLoss chunk_loss_over_ranks(int64_t vocabulary, const ProcessGroup& group, double smoothing) {
  const auto part = even_parts(vocabulary, group.size())[static_cast<size_t>(group.rank())];
  return [=](at::Tensor& logits, const at::Tensor& labels, const at::Tensor& share) {
    logits = logits.to(at::kFloat);
    const auto counted = labels.ne(kIgnoreIndex);
    const LocalIds targets(labels, part);
    const auto is_here = targets.outside.logical_not().to(logits.scalar_type());
    const auto indices = targets.ids_inside.unsqueeze(1);
    const auto largest = logits.amax(1);
    group.all_reduce(largest, ReduceOp::kMax).wait();
    logits.sub_(largest.unsqueeze(1));

    const auto sums =
        at::stack({logits.exp().sum(1), logits.gather(1, indices).squeeze(1).mul_(is_here), logits.sum(1)});
    group.all_reduce(sums).wait();
    const auto log_sum = sums[0].log();
    const auto spread = smoothing / static_cast<double>(vocabulary);
    const auto losses = log_sum - sums[1] * (1 - smoothing) - sums[2] * spread;

    logits.sub_(log_sum.unsqueeze(1)).exp_();
    logits.scatter_add_(1, indices, is_here.unsqueeze(1).mul(smoothing - 1));
    logits.sub_(spread).mul_(counted.unsqueeze(1)).mul_(share);
    return losses.masked_fill(~counted, 0).sum();
  };
}

std::optional<int64_t> local_padding(const std::optional<int64_t>& padding_idx, const Part& part) {
  if (!padding_idx || *padding_idx < part.start || *padding_idx >= part.start + part.length) {
    return std::nullopt;
  }
  return *padding_idx - part.start;
}

}  // namespace

at::Tensor vocabulary_parallel_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& bias,
                                             const at::Tensor& labels, int64_t vocabulary, const ProcessGroup& group,
                                             const LinearCrossEntropyOptions& options) {
  check_labels(labels, vocabulary);
  const auto copied = copy_to_group(hidden, group);
  return chunked_cross_entropy({.hidden = copied, .weight = weight, .bias = bias, .labels = labels}, options,
                               chunk_loss_over_ranks(vocabulary, group, options.label_smoothing));
}

void make_vocabulary_parallel(Embedding embedding, const ProcessGroup& group) {
  const auto rows = embedding->weight.size(0);
  TORCH_CHECK(rows >= group.size(), "a vocabulary of ", rows, " tokens cannot be split over ", group.size(), " ranks");
  const auto part = even_parts(rows, group.size())[static_cast<size_t>(group.rank())];
  embedding->set_weight(embedding->weight.detach().narrow(0, part.start, part.length).clone());
  embedding->options.padding_idx(local_padding(embedding->options.padding_idx(), part));

  const auto outside = std::make_shared<at::Tensor>();  // from the call's beginning to its end
  embedding->register_forward_pre_hook([=](const at::Tensor& ids) {
    const LocalIds local(ids, part);
    *outside = local.outside;
    return local.ids_inside;
  });
  embedding->register_forward_hook([=](const at::Tensor&, const at::Tensor& found) {
    const auto here = found.masked_fill(std::exchange(*outside, {}).unsqueeze(-1), 0);
    return reduce_from_group(here, group);
  });
}

}  // namespace transformers
