// Statistics of a model on calibration tokens, collected by forward hooks in eval mode: mean activations, and gradients
// of the loss for Taylor scores.
#include "utils/model_pruning/calibration.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <transformers/utils/modeling/causal_lm.h>

#include <functional>

namespace transformers::model_pruning {
namespace {

/// Switches dropout off during its lifetime.
class EvalGuard {
 public:
  explicit EvalGuard(torch::nn::Module& model) : model_(model), was_training_(model.is_training()) { model.eval(); }
  ~EvalGuard() { model_.train(was_training_); }
  EvalGuard(const EvalGuard&) = delete;
  EvalGuard& operator=(const EvalGuard&) = delete;

 private:
  torch::nn::Module& model_;
  bool was_training_;
};

/// Makes every weight require gradients during its lifetime.
class RequiresGradGuard {
 public:
  explicit RequiresGradGuard(const std::vector<at::Tensor>& weights) {
    for (const auto& weight : weights) {
      if (!weight.requires_grad()) {
        frozen_.push_back(weight.requires_grad_());
      }
    }
  }
  ~RequiresGradGuard() {
    for (const auto& weight : frozen_) {
      weight.requires_grad_(false);
    }
  }
  RequiresGradGuard(const RequiresGradGuard&) = delete;
  RequiresGradGuard& operator=(const RequiresGradGuard&) = delete;

 private:
  std::vector<at::Tensor> frozen_;
};

/// Removes its hooks when it is destroyed.
class ScopedHooks {
 public:
  ScopedHooks() = default;
  ~ScopedHooks() {
    for (const auto& [hooks, id] : registered_) {
      hooks->remove_forward_hook(id);
    }
  }
  ScopedHooks(const ScopedHooks&) = delete;
  ScopedHooks& operator=(const ScopedHooks&) = delete;

  void on_input(ForwardHooks& module, std::function<void(const at::Tensor&)> see) {
    const auto id = module.register_forward_pre_hook(
        [see = std::move(see)](const at::Tensor& input) {
          see(input);
          return at::Tensor();
        },
        ForwardHooks::Owner::kObserver);
    registered_.emplace_back(&module, id);
  }
  void on_output(ForwardHooks& module, std::function<void(const at::Tensor&, const at::Tensor&)> see) {
    const auto id = module.register_forward_hook(
        [see = std::move(see)](const at::Tensor& input, const at::Tensor& out) {
          see(input, out);
          return at::Tensor();
        },
        ForwardHooks::Owner::kObserver);
    registered_.emplace_back(&module, id);
  }

 private:
  std::vector<std::pair<ForwardHooks*, ForwardHooks::HookId>> registered_;
};

/// A mean over tokens that arrive in batches.
class TokenMean {
 public:
  /// values: [batch, seq, parts].
  void add(const at::Tensor& values) {
    const auto rows = values.flatten(0, -2);
    const auto sum = rows.sum(0, /*keepdim=*/false, at::kDouble).cpu();
    sum_ = sum_.defined() ? sum_ + sum : sum;
    tokens_ += rows.size(0);
  }
  at::Tensor mean() const { return sum_ / static_cast<double>(tokens_); }

 private:
  at::Tensor sum_;
  int64_t tokens_ = 0;
};

at::Tensor magnitude(const at::Tensor& values) { return values.to(at::kFloat).abs(); }

/// [batch, seq, parts · unit] → the norm of each part, [batch, seq, parts].
at::Tensor part_norms(const at::Tensor& values, int64_t unit) {
  return values.to(at::kFloat).unflatten(-1, {-1, unit}).norm(2, -1);
}

/// 1 − the cosine between input and output, [batch, seq, 1].
at::Tensor influence(const at::Tensor& input, const at::Tensor& output) {
  return 1 - at::cosine_similarity(input.to(at::kFloat), output.to(at::kFloat), -1).unsqueeze(-1);
}

void watch(ScopedHooks& hooks, LayerStructure& layer, PrunablePart part, int64_t unit, TokenMean& mean) {
  switch (part) {
    case PrunablePart::kHeads:
    case PrunablePart::kGroups:
      return hooks.on_input(*layer.attention_output,
                            [&mean, unit](const at::Tensor& input) { mean.add(part_norms(input, unit)); });
    case PrunablePart::kChannels:
      return hooks.on_input(*layer.mlp_output, [&mean](const at::Tensor& input) { mean.add(magnitude(input)); });
    case PrunablePart::kLayers:
      return hooks.on_output(*layer.block, [&mean](const at::Tensor& input, const at::Tensor& output) {
        mean.add(influence(input, output));
      });
    case PrunablePart::kHiddenUnits:
      for (auto* reader : {&layer.query, &layer.mlp_inputs.front()}) {
        hooks.on_input(**reader, [&mean](const at::Tensor& input) { mean.add(magnitude(input)); });
      }
  }
}

void run(PreTrainedModel& model, const std::vector<at::Tensor>& calibration) {
  const EvalGuard eval(model);
  const at::NoGradGuard no_grad;
  for (const auto& ids : calibration) {
    model.base_model().forward({.input_ids = ids.to(model.device()), .use_cache = false});
  }
}

}  // namespace

std::vector<at::Tensor> activation_means(PreTrainedModel& model, PrunablePart part,
                                         const std::vector<at::Tensor>& calibration) {
  auto layers = model.structure().layers;
  const auto parts = shares(model, part);
  std::vector<TokenMean> means(parts.size());
  {
    ScopedHooks hooks;
    for (size_t i = 0; i < layers.size(); ++i) {
      const auto number = means.size() == 1 ? 0 : i;
      // In both lists of heads, the second entry is the columns of the attention's output layer.
      watch(hooks, layers[i], part, parts[number][1].unit, means[number]);
    }
    run(model, calibration);
  }
  std::vector<at::Tensor> result;
  for (const auto& mean : means) {
    result.push_back(mean.mean());
  }
  return result;
}

std::vector<at::Tensor> loss_gradients(PreTrainedModel& model, const std::vector<at::Tensor>& weights,
                                       const std::vector<at::Tensor>& calibration) {
  auto* causal = dynamic_cast<CausalLM*>(&model);
  TORCH_CHECK(causal != nullptr, "Taylor scores need a causal LM, which has a loss on token ids alone, got ",
              model.architecture());
  const EvalGuard eval(model);
  const at::AutoGradMode recording(true);
  const RequiresGradGuard requires_grad(weights);
  std::vector<at::Tensor> gradients;
  for (const auto& batch : calibration) {
    const auto ids = batch.to(model.device());
    const auto loss = causal->forward({.input_ids = ids, .use_cache = false}, {.labels = ids}).loss;
    const auto of_batch = torch::autograd::grad({loss}, weights);
    for (size_t i = 0; i < weights.size(); ++i) {
      if (gradients.size() == i) {
        gradients.push_back(of_batch[i].to(at::kFloat, /*non_blocking=*/false, /*copy=*/true));
      } else {
        gradients[i].add_(of_batch[i]);
      }
    }
  }
  return gradients;
}

}  // namespace transformers::model_pruning
