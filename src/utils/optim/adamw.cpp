#include <ATen/ATen.h>
#include <transformers/utils/optim/optimizer.h>

#include "utils/optim/adamw_options.h"

namespace transformers {
namespace {

/// Tensors that one call of the fused kernel can take: all of one dtype and on one device.
struct Lists {
  std::vector<at::Tensor> values, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps;
};

at::Tensor& zeros_at_first(ParamState& state, const char* name, const at::Tensor& like) {
  auto& tensor = state.tensors[name];
  if (!tensor.defined()) {
    tensor = at::zeros_like(like, at::MemoryFormat::Preserve);
  }
  return tensor;
}

}  // namespace

const torch::optim::AdamWOptions& checked_adamw_options(const torch::optim::AdamWOptions& options,
                                                        const char* optimizer) {
  const auto [beta1, beta2] = options.betas();
  TORCH_CHECK(options.lr() >= 0 && options.eps() >= 0 && options.weight_decay() >= 0, optimizer,
              ": lr, eps and weight_decay must be 0 or more, got ", options.lr(), ", ", options.eps(), " and ",
              options.weight_decay());
  TORCH_CHECK(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1, optimizer, ": betas must lie in [0, 1), got ", beta1,
              " and ", beta2);
  return options;
}

AdamW::AdamW(const std::vector<torch::optim::OptimizerParamGroup>& groups, torch::optim::AdamWOptions defaults,
             LowPrecision low_precision)
    : Optimizer(groups, std::make_unique<torch::optim::AdamWOptions>(checked_adamw_options(defaults, "AdamW")),
                low_precision) {}

AdamW::AdamW(std::vector<at::Tensor> parameters, torch::optim::AdamWOptions defaults, LowPrecision low_precision)
    : AdamW({torch::optim::OptimizerParamGroup(std::move(parameters))}, std::move(defaults), low_precision) {}

void AdamW::update(Batch& batch) {
  const auto& options = static_cast<const torch::optim::AdamWOptions&>(batch.options);
  std::map<std::pair<c10::Device, c10::ScalarType>, Lists, decltype([](const auto& a, const auto& b) {
             return std::tuple(a.first.type(), a.first.index(), a.second) <
                    std::tuple(b.first.type(), b.first.index(), b.second);
           })>
      by_kind;
  for (size_t i = 0; i < batch.values.size(); ++i) {
    const auto& value = batch.values[i];
    auto& state = *batch.states[i];
    auto& lists = by_kind[{value.device(), value.scalar_type()}];
    lists.values.push_back(value);
    lists.grads.push_back(batch.grads[i]);
    lists.exp_avgs.push_back(zeros_at_first(state, "exp_avg", value));
    lists.exp_avg_sqs.push_back(zeros_at_first(state, "exp_avg_sq", value));
    if (options.amsgrad()) {
      lists.max_exp_avg_sqs.push_back(zeros_at_first(state, "max_exp_avg_sq", value));
    }
    lists.steps.push_back(zeros_at_first(state, "step", at::empty({}, value.options().dtype(at::kFloat))));
  }
  const auto [beta1, beta2] = options.betas();
  for (auto& [kind, lists] : by_kind) {
    at::_foreach_add_(lists.steps, 1);
    at::_fused_adamw_(lists.values, lists.grads, lists.exp_avgs, lists.exp_avg_sqs, lists.max_exp_avg_sqs, lists.steps,
                      options.lr(), beta1, beta2, options.weight_decay(), options.eps(), options.amsgrad(),
                      /*maximize=*/false);
  }
}

}  // namespace transformers
