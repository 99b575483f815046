#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/pooling.h>
#include <transformers/utils/pruning/prune_functions.h>

#include <algorithm>

#include "utils/pruning/exact_class.h"
#include "utils/pruning/narrowing.h"

namespace transformers {
namespace {

namespace nn = torch::nn;

/// The forward of the module if its class is one of `Modules`, else none. The input is copied, because some modules
/// work in place.
template <typename... Modules>
ElementwiseFunction forward_of_one(nn::Module& module) {
  ElementwiseFunction forward;
  const auto take = [&]<typename Type>(Type* found) {
    forward = [found](const at::Tensor& input) { return found->forward(input.clone()); };
  };
  ((is_exactly<Modules>(&module) ? take(dynamic_cast<Modules*>(&module)) : void()), ...);
  return forward;
}

ElementwiseFunction activation_of(nn::Module& module) {
  return forward_of_one<nn::CELUImpl, nn::ELUImpl, nn::GELUImpl, nn::HardshrinkImpl, nn::HardtanhImpl,
                        nn::LeakyReLUImpl, nn::LogSigmoidImpl, nn::MishImpl, nn::PReLUImpl, nn::ReLU6Impl, nn::ReLUImpl,
                        nn::RReLUImpl, nn::SELUImpl, nn::SiLUImpl, nn::SigmoidImpl, nn::SoftplusImpl, nn::SoftsignImpl,
                        nn::TanhImpl, nn::TanhshrinkImpl>(module);
}

/// A step is the module in evaluation mode, in which RReLU uses the mean of its random slopes.
ElementwiseFunction in_evaluation(nn::Module& module, ElementwiseFunction forward) {
  return [&module, forward = std::move(forward)](const at::Tensor& input) {
    const bool is_training = module.is_training();
    module.eval();
    auto output = forward(input);
    module.train(is_training);
    return output;
  };
}

/// An average that counts padding, or that divides by another number, changes the constant that it averages.
bool averages_exactly(const nn::AvgPool2dOptions& options) {
  const auto& padding = *options.padding();
  const bool is_padded = std::any_of(padding.begin(), padding.end(), [](int64_t size) { return size > 0; });
  return !options.divisor_override() && !(is_padded && options.count_include_pad());
}

at::Tensor unchanged(const at::Tensor& input) { return input; }

}  // namespace

ChannelStep::ChannelStep(ElementwiseFunction activation) : ChannelStep(std::move(activation), false, true) {
  is_function_ = true;
}

ChannelStep::ChannelStep(ElementwiseFunction activation, bool is_pooling, bool keeps_constants)
    : activation_(std::move(activation)), is_pooling_(is_pooling), keeps_constants_(keeps_constants) {
  TORCH_CHECK(activation_ != nullptr, "an activation between two layers must be a function, got none");
}

std::optional<ChannelStep> ChannelStep::of(nn::Module& module) {
  if (auto forward = activation_of(module)) {
    ChannelStep step(in_evaluation(module, std::move(forward)), false, true);
    if (auto* prelu = dynamic_cast<nn::PReLUImpl*>(&module); prelu != nullptr && prelu->weight.numel() > 1) {
      step.channel_weight_ = prelu->weight;
      step.set_channels_ = [prelu](int64_t channels) { prelu->options.num_parameters(channels); };
    }
    return step;
  }
  if (is_exactly<nn::IdentityImpl, nn::DropoutImpl, nn::Dropout2dImpl>(&module)) {
    return ChannelStep(unchanged, false, true);
  }
  if (is_exactly<nn::AvgPool2dImpl>(&module)) {
    return of(dynamic_cast<const nn::AvgPool2dImpl&>(module).options);
  }
  if (is_exactly<nn::MaxPool2dImpl, nn::AdaptiveAvgPool2dImpl, nn::AdaptiveMaxPool2dImpl>(&module)) {
    return ChannelStep(unchanged, true, true);
  }
  return std::nullopt;
}

ChannelStep ChannelStep::of(const nn::MaxPool2dOptions&) { return {unchanged, true, true}; }

ChannelStep ChannelStep::of(const nn::AvgPool2dOptions& pooling) {
  return {unchanged, true, averages_exactly(pooling)};
}

ChannelStep ChannelStep::of(const nn::AdaptiveMaxPool2dOptions&) { return {unchanged, true, true}; }

ChannelStep ChannelStep::of(const nn::AdaptiveAvgPool2dOptions&) { return {unchanged, true, true}; }

std::optional<at::Tensor> ChannelStep::constants(const at::Tensor& before) const {
  const at::NoGradGuard no_grad;
  if (!keeps_constants_ && before.ne(0).any().item<bool>()) {
    return std::nullopt;
  }
  return activation_(before);
}

void ChannelStep::narrow(const at::Tensor& keep, PrunedParameters& done) const {
  if (channel_weight_.defined()) {
    narrow_and_note(channel_weight_, kept_along(0, keep), done);
    set_channels_(channel_weight_.size(0));
  }
}

}  // namespace transformers
