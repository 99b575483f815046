// Removes masked output channels and the inputs that read them, after prune_functions.py of torch.ao.pruning, torch
// 2.11.0. The constant that a hidden channel carries is moved into the bias of the next layer; where that cannot be
// exact, the hidden rows are set to zero instead.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>
#include <transformers/utils/pruning/prune_functions.h>

#include <algorithm>
#include <variant>

#include "utils/pruning/narrowing.h"
#include "utils/pruning/prune_checks.h"

namespace transformers {
namespace {

namespace nn = torch::nn;

/// The layer's registered parameters, which LibTorch keeps protected.
struct ParameterAccess : nn::Module {
  static auto entries() { return &ParameterAccess::parameters_; }
};

void set_sizes(nn::LinearImpl& linear) {
  linear.options.out_features(linear.weight.size(0)).in_features(linear.weight.size(1)).bias(linear.bias.defined());
}

void set_sizes(nn::Conv2dImpl& conv) {
  conv.options.out_channels(conv.weight.size(0)).in_channels(conv.weight.size(1)).bias(conv.bias.defined());
}

bool is_zero(const at::Tensor& tensor) { return tensor.eq(0).all().item<bool>(); }

bool is_padded(const nn::Conv2dImpl& conv) {
  const auto& options = conv.options;
  const auto any_above_zero = [](const torch::ExpandingArray<2>& sizes) {
    return std::any_of(sizes->begin(), sizes->end(), [](int64_t size) { return size > 0; });
  };
  if (const auto* sizes = std::get_if<torch::ExpandingArray<2>>(&options.padding())) {
    return any_above_zero(*sizes);
  }
  const auto& kernel = *options.kernel_size();
  const bool is_wide = std::any_of(kernel.begin(), kernel.end(), [](int64_t size) { return size > 1; });
  return std::holds_alternative<torch::enumtype::kSame>(options.padding()) && is_wide;
}

bool is_padded(const nn::LinearImpl&) { return false; }

/// The value of each hidden channel that the next layer reads, [channels]; none if a value is not constant.
template <typename Layer>
std::optional<at::Tensor> hidden_constants(const Layer& layer, const ChannelMask& mask,
                                           const std::vector<ChannelStep>& steps) {
  const bool has_constants = layer.bias.defined() && !mask.prune_bias;
  auto constants = has_constants ? layer.bias.detach() : at::zeros({layer.weight.size(0)}, layer.weight.options());
  constants = constants.masked_fill(mask.keep.to(constants.device()), 0);
  std::optional<at::Tensor> row = constants.detach().unsqueeze(0);
  for (const auto& step : steps) {
    row = row ? step.constants(*row) : std::nullopt;
  }
  return row ? std::make_optional(row->squeeze(0).masked_fill(mask.keep.to(row->device()), 0)) : std::nullopt;
}

/// Sets hidden channels to zero; used where nothing can be narrowed.
template <typename Layer>
void zero_hidden_rows(Layer& layer, const ChannelMask& mask) {
  const at::NoGradGuard no_grad;
  const auto hidden = mask.keep.logical_not().nonzero().flatten().to(layer.weight.device());
  layer.weight.index_fill_(0, hidden, 0);
  use_up_mask(layer.weight);
  if (layer.bias.defined()) {
    if (mask.prune_bias) {
      layer.bias.index_fill_(0, hidden, 0);
    }
    use_up_mask(layer.bias);
  }
}

template <typename Layer>
void narrow_outputs(Layer& layer, const ChannelMask& mask, const std::vector<ChannelStep>& steps,
                    PrunedParameters& done) {
  const auto rows = kept_along(0, mask.keep);
  use_up_mask(layer.weight);
  narrow_and_note(layer.weight, rows, done);
  if (layer.bias.defined()) {
    use_up_mask(layer.bias);
    narrow_and_note(layer.bias, rows, done);
  }
  set_sizes(layer);
  for (const auto& step : steps) {
    step.narrow(mask.keep, done);
  }
}

template <typename Layer>
void add_bias(Layer& layer, const at::Tensor& bias, PrunedParameters& done) {
  layer.bias = bias.detach().requires_grad_(layer.weight.requires_grad());
  auto& entries = layer.*ParameterAccess::entries();
  if (entries.contains("bias")) {
    entries["bias"] = layer.bias;
  } else {
    entries.insert("bias", layer.bias);
  }
  done.added.push_back({layer.bias, layer.weight});
}

/// Moves the constants of hidden inputs into the bias. A row that this layer's own mask hides reads nothing, so its
/// bias does not change.
template <typename Layer>
void absorb(Layer& layer, const at::Tensor& keep, const at::Tensor& constants, PrunedParameters& done) {
  const at::NoGradGuard no_grad;
  if (is_zero(constants)) {
    return;
  }
  const auto hidden = keep.logical_not().nonzero().flatten().to(layer.weight.device());
  auto columns = layer.weight.detach().index_select(1, hidden);
  columns = columns.dim() > 2 ? columns.flatten(2).sum(-1) : columns;
  const auto share = columns.matmul(constants.index_select(0, hidden));
  if (layer.bias.defined()) {
    layer.bias.add_(share);
  } else {
    add_bias(layer, share, done);
  }
}

template <typename First, typename Next>
PrunedParameters prune_pair(First& first, const ChannelMask& mask, const std::vector<ChannelStep>& steps, Next& next) {
  check_channels(first.name(), first, mask, steps, &next);
  // The number is above 1 where a convolution's channels are flattened.
  const auto repeat = next.weight.size(1) / first.weight.size(0);
  PrunedParameters done;
  const auto constants = hidden_constants(first, mask, steps);
  const bool keeps_zero = constants && !first.bias.defined() && is_zero(*constants);
  if (!constants || (is_padded(next) && !keeps_zero)) {
    zero_hidden_rows(first, mask);
    return done;
  }
  narrow_outputs(first, mask, steps, done);
  const auto keep = mask.keep.repeat_interleave(repeat);
  absorb(next, keep, constants->repeat_interleave(repeat), done);
  narrow_and_note(next.weight, kept_along(1, keep), done);
  set_sizes(next);
  return done;
}

template <typename Layer>
PrunedParameters prune_last(Layer& layer, const ChannelMask& mask, const std::vector<ChannelStep>& steps) {
  check_channels(layer.name(), layer, mask, steps, nullptr);
  PrunedParameters done;
  narrow_outputs(layer, mask, steps, done);
  return done;
}

}  // namespace

PrunedParameters prune_linear(nn::LinearImpl& linear, const ChannelMask& mask, const std::vector<ChannelStep>& steps) {
  return prune_last(linear, mask, steps);
}

PrunedParameters prune_conv2d(nn::Conv2dImpl& conv2d, const ChannelMask& mask, const std::vector<ChannelStep>& steps) {
  return prune_last(conv2d, mask, steps);
}

PrunedParameters prune_linear(nn::LinearImpl& linear1, const ChannelMask& mask, const std::vector<ChannelStep>& steps,
                              nn::LinearImpl& linear2) {
  return prune_pair(linear1, mask, steps, linear2);
}

PrunedParameters prune_conv2d(nn::Conv2dImpl& conv2d_1, const ChannelMask& mask, const std::vector<ChannelStep>& steps,
                              nn::Conv2dImpl& conv2d_2) {
  return prune_pair(conv2d_1, mask, steps, conv2d_2);
}

PrunedParameters prune_conv2d(nn::Conv2dImpl& conv2d, const ChannelMask& mask, const std::vector<ChannelStep>& steps,
                              nn::LinearImpl& linear) {
  return prune_pair(conv2d, mask, steps, linear);
}

PrunedParameters prune_linear_linear(nn::LinearImpl& linear1, const ChannelMask& mask, nn::LinearImpl& linear2) {
  return prune_linear(linear1, mask, {}, linear2);
}

PrunedParameters prune_linear_activation_linear(nn::LinearImpl& linear1, const ChannelMask& mask,
                                                const ChannelStep& activation, nn::LinearImpl& linear2) {
  return prune_linear(linear1, mask, {activation}, linear2);
}

PrunedParameters prune_conv2d_conv2d(nn::Conv2dImpl& conv2d_1, const ChannelMask& mask, nn::Conv2dImpl& conv2d_2) {
  return prune_conv2d(conv2d_1, mask, {}, conv2d_2);
}

PrunedParameters prune_conv2d_activation_conv2d(nn::Conv2dImpl& conv2d_1, const ChannelMask& mask,
                                                const ChannelStep& activation, nn::Conv2dImpl& conv2d_2) {
  return prune_conv2d(conv2d_1, mask, {activation}, conv2d_2);
}

PrunedParameters prune_conv2d_activation_pool_conv2d(nn::Conv2dImpl& conv2d_1, const ChannelMask& mask,
                                                     const ChannelStep& activation, const ChannelStep& pool,
                                                     nn::Conv2dImpl& conv2d_2) {
  return prune_conv2d(conv2d_1, mask, {activation, pool}, conv2d_2);
}

PrunedParameters prune_conv2d_pool_activation_conv2d(nn::Conv2dImpl& conv2d_1, const ChannelMask& mask,
                                                     const ChannelStep& pool, const ChannelStep& activation,
                                                     nn::Conv2dImpl& conv2d_2) {
  return prune_conv2d(conv2d_1, mask, {pool, activation}, conv2d_2);
}

PrunedParameters prune_conv2d_pool_flatten_linear(nn::Conv2dImpl& conv2d, const ChannelMask& mask,
                                                  const ChannelStep& pool, nn::LinearImpl& linear) {
  return prune_conv2d(conv2d, mask, {pool}, linear);
}

void prune_conv2d_padded(nn::Conv2dImpl& conv2d, const ChannelMask& mask) {
  check_channels(conv2d.name(), conv2d, mask, {}, nullptr);
  zero_hidden_rows(conv2d, mask);
}

}  // namespace transformers
