#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <transformers/utils/model_pruning/importance.h>

#include <unordered_map>

#include "utils/model_pruning/calibration.h"
#include "utils/model_pruning/parts.h"

namespace transformers {
namespace {

using namespace model_pruning;
using Shares = std::vector<std::vector<Share>>;

/// The sum of a matrix's `elements` over each part: fp64 [parts].
at::Tensor part_sums(const Share& share, const at::Tensor& elements) {
  return elements.sum(1 - share.dim, /*keepdim=*/false, at::kDouble).view({-1, share.unit}).sum(1).cpu();
}

/// Sums over all matrices of a list; `elements` computes from a weight the values to sum.
template <typename Elements>
std::vector<at::Tensor> matrix_scores(const Shares& parts, const Elements& elements) {
  std::vector<at::Tensor> scores;
  for (const auto& list : parts) {
    auto score = at::zeros({list.front().parts()}, at::kDouble);
    for (const auto& share : list) {
      score += part_sums(share, elements(share.weight));
    }
    scores.push_back(score);
  }
  return scores;
}

at::Tensor magnitudes(const at::Tensor& weight) { return weight.detach().to(at::kFloat).abs(); }
at::Tensor squares(const at::Tensor& weight) { return weight.detach().to(at::kFloat).square(); }

std::vector<at::Tensor> taylor_scores(PreTrainedModel& model, const Shares& parts,
                                      const std::vector<at::Tensor>& calibration) {
  std::vector<at::Tensor> weights;
  for (const auto& list : parts) {
    for (const auto& share : list) {
      weights.push_back(share.weight);
    }
  }
  const auto gradients = loss_gradients(model, weights, calibration);
  std::unordered_map<const void*, at::Tensor> by_weight;
  for (size_t i = 0; i < weights.size(); ++i) {
    by_weight[weights[i].unsafeGetTensorImpl()] = gradients[i];
  }
  return matrix_scores(parts, [&](const at::Tensor& weight) {
    return magnitudes(weight.detach().to(at::kFloat) * by_weight.at(weight.unsafeGetTensorImpl()));
  });
}

std::vector<at::Tensor> random_scores(const Shares& parts, uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  std::vector<at::Tensor> scores;
  for (const auto& list : parts) {
    scores.push_back(at::rand({list.front().parts()}, generator, at::kDouble));
  }
  return scores;
}

std::vector<at::Tensor> scores_by(PreTrainedModel& model, PrunablePart part, const ImportanceOptions& options) {
  const auto parts = shares(model, part);
  switch (options.criterion) {
    case PruningCriterion::kL1:
      return matrix_scores(parts, magnitudes);
    case PruningCriterion::kL2: {
      auto scores = matrix_scores(parts, squares);
      for (auto& score : scores) {
        score.sqrt_();
      }
      return scores;
    }
    case PruningCriterion::kActivation:
      return activation_means(model, part, options.calibration);
    case PruningCriterion::kTaylor:
      return taylor_scores(model, parts, options.calibration);
    case PruningCriterion::kRandom:
      return random_scores(parts, options.seed);
  }
  TORCH_INTERNAL_ASSERT(false, "criterion without scores");
}

void check_calibration(const ImportanceOptions& options) {
  const bool is_needed =
      options.criterion == PruningCriterion::kActivation || options.criterion == PruningCriterion::kTaylor;
  TORCH_CHECK(!is_needed || !options.calibration.empty(), "this criterion needs calibration tokens");
  for (const auto& ids : options.calibration) {
    TORCH_CHECK(ids.defined() && ids.dim() == 2 && ids.numel() > 0, "calibration tokens must be [batch, seq], got ",
                ids.defined() ? ids.sizes() : at::IntArrayRef());
    // The label of a text's first token is not used.
    TORCH_CHECK(options.criterion != PruningCriterion::kTaylor || ids.size(1) > 1,
                "calibration tokens of Taylor scores must be at least 2 in a row");
  }
}

void check_values(const PreTrainedModel& model) {
  for (const auto& parameter : model.named_parameters()) {
    TORCH_CHECK(!parameter->is_meta(), parameter.key(), " has no values here; a model without them cannot be scored");
  }
}

}  // namespace

std::vector<at::Tensor> importance(PreTrainedModel& model, PrunablePart part, const ImportanceOptions& options) {
  check_calibration(options);
  model.check_prunable();
  check_values(model);
  auto scores = scores_by(model, part, options);
  return part == PrunablePart::kLayers ? std::vector<at::Tensor>{at::cat(scores)} : scores;
}

}  // namespace transformers
