// Mirrors saliency_pruner.py, lstm_saliency_pruner.py and FPGM_pruner.py of torch/ao/pruning/_experimental/pruner,
// torch 2.11.0. Deviation: a level outside [0, 1] is an error for the two saliency pruners, by name.
#include <ATen/ops/cat.h>
#include <ATen/ops/cdist.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>
#include <transformers/utils/pruning/pruners.h>

#include <cmath>

namespace transformers {
namespace {

void check_rows(const SparsityGroup& group, const at::Tensor& weight) {
  TORCH_CHECK(weight.dim() > 1, "'", group.tensor_fqn,
              "': structured pruning needs a weight of 2 dimensions or more, got ", weight.dim());
}

void check_level(const SparsityGroup& group) {
  TORCH_CHECK(group.sparsity_level >= 0 && group.sparsity_level <= 1, "'", group.tensor_fqn,
              "': sparsity_level must be in [0, 1], got ", group.sparsity_level);
}

/// [rows, ...] → [rows]
at::Tensor saliency(const at::Tensor& weight) { return weight.flatten(1).norm(1, 1); }

at::Tensor without_smallest(const at::Tensor& mask, const at::Tensor& scores, int64_t count) {
  const auto smallest = std::get<1>(scores.topk(count, /*dim=*/0, /*largest=*/false));
  return mask.index_fill(0, smallest, false);
}

int64_t fraction_of(int64_t rows, double level) { return static_cast<int64_t>(static_cast<double>(rows) * level); }

FPGMPruner::Distance norm_distance(int p) {
  TORCH_CHECK(p == 1 || p == 2, "FPGMPruner: p must be 1 or 2, or give a distance function; got ", p);
  return [p](const at::Tensor& rows) { return at::cdist(rows, rows, p); };
}

}  // namespace

at::Tensor SaliencyPruner::update_mask(const SparsityGroup& group, const at::Tensor& weight,
                                       const at::Tensor& mask) const {
  check_rows(group, weight);
  check_level(group);
  return without_smallest(mask, saliency(weight), fraction_of(mask.size(0), group.sparsity_level));
}

at::Tensor LSTMSaliencyPruner::update_mask(const SparsityGroup& group, const at::Tensor& weight,
                                           const at::Tensor& mask) const {
  check_rows(group, weight);
  check_level(group);
  TORCH_CHECK(weight.size(0) % 4 == 0, "'", group.tensor_fqn, "': the rows of four gates are a multiple of 4, got ",
              weight.size(0));
  const auto scores = saliency(weight).chunk(4);
  auto masks = mask.chunk(4);
  for (size_t gate = 0; gate < masks.size(); ++gate) {
    const auto count = fraction_of(masks[gate].size(0), group.sparsity_level);
    masks[gate] = without_smallest(masks[gate], scores[gate], count);
  }
  return at::cat(masks);
}

FPGMPruner::FPGMPruner(SparsityDefaults defaults, int p) : FPGMPruner(defaults, norm_distance(p)) {}

FPGMPruner::FPGMPruner(SparsityDefaults defaults, Distance distance)
    : BaseStructuredSparsifier(defaults), distance_(std::move(distance)) {
  TORCH_CHECK(distance_ != nullptr, "FPGMPruner: the distance must be a function, got none");
}

at::Tensor FPGMPruner::distances(const at::Tensor& weight) const {
  const auto rows = weight.size(0);
  const auto between = distance_(weight.flatten(1));
  TORCH_CHECK(between.sizes() == at::IntArrayRef({rows, rows}), "FPGMPruner: the distances of ", rows,
              " rows must have shape [", rows, ", ", rows, "], got ", between.sizes());
  return between.abs().sum(1);
}

at::Tensor FPGMPruner::update_mask(const SparsityGroup& group, const at::Tensor& weight, const at::Tensor& mask) const {
  check_rows(group, weight);
  const auto level = group.sparsity_level;
  TORCH_CHECK(!std::isnan(level), "'", group.tensor_fqn, "': sparsity_level must be a number, got ", level);
  if (level <= 0) {
    return at::ones_like(mask);
  }
  if (level >= 1) {
    return at::zeros_like(mask);
  }
  // Rounded as by Python: halves to the even neighbour.
  const auto count = std::nearbyint(level * static_cast<double>(mask.size(0)));
  return without_smallest(mask, distances(weight), static_cast<int64_t>(count));
}

}  // namespace transformers
