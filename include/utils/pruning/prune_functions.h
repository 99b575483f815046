#pragma once

#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/modules/rnn.h>
#include <torch/nn/options/pooling.h>
#include <transformers/export.h>
#include <transformers/utils/pruning/optimizer_state.h>

#include <functional>
#include <optional>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Mirrors torch/ao/pruning/_experimental/pruner/prune_functions.py, torch 2.11.0: each function removes the output
// channels that a mask hides, and the inputs of the next layer that read them. Layers change in place and remain the
// same objects with the same parameters; the changes that an optimizer has to follow are returned. Masks on the
// parameters (fake_structured_sparsity.h) are removed.
//
// A removed channel carried a constant: its bias, or zero with `prune_bias`, after the functions between the layers.
// The constant is moved into the next layer's bias, which is added if there was none, so that outputs stay those of the
// masked layers. Where that cannot be exact, nothing is narrowed: the layer keeps its shape, and hidden rows stay zero.
// This is the case for a second convolution with padding, unless the first has no bias and the constants are zero, and
// for constants other than zero that pass through an average pooling which counts its padding.

/// Selects the output channels of a layer that are kept.
struct ChannelMask {
  /// bool [channels]
  at::Tensor keep{};
  /// Whether the bias of a hidden channel counts as zero; otherwise it keeps its value until the channel is removed.
  bool prune_bias = true;
};

/// A function of each single element. Before anything is pruned it is tested on a few numbers of shape [1, channels]
/// and on subsets of them; a function that fails, changes the shape or mixes channels is an error.
using ElementwiseFunction = std::function<at::Tensor(const at::Tensor&)>;

/// A step between two layers that does not mix channels: an activation, a pooling, a dropout.
class ChannelStep {
 public:
  explicit ChannelStep(ElementwiseFunction activation);

  /// The reference's activations that LibTorch has as modules, `Identity`, `Dropout`, `Dropout2d` (which count as
  /// identity), and `AvgPool2d`, `MaxPool2d`, `AdaptiveAvgPool2d`, `AdaptiveMaxPool2d`; nullopt for any other module. A
  /// `PReLU` with a weight for each channel (along dimension 1) is narrowed with the channels. The module must outlive
  /// the step.
  static std::optional<ChannelStep> of(torch::nn::Module& module);
  /// The same poolings called as functions.
  static ChannelStep of(const torch::nn::MaxPool2dOptions& pooling);
  static ChannelStep of(const torch::nn::AvgPool2dOptions& pooling);
  static ChannelStep of(const torch::nn::AdaptiveMaxPool2dOptions& pooling);
  static ChannelStep of(const torch::nn::AdaptiveAvgPool2dOptions& pooling);

  /// The step applied to channels that are constant everywhere, [1, channels] → [1, channels]; nullopt when the results
  /// are not constant.
  std::optional<at::Tensor> constants(const at::Tensor& before) const;
  /// The parameter with one value for each channel; undefined for every step except such a PReLU.
  const at::Tensor& channel_weight() const { return channel_weight_; }
  bool is_pooling() const { return is_pooling_; }
  /// Whether the step is a function of the caller, about which nothing else is known.
  bool is_function() const { return is_function_; }
  void narrow(const at::Tensor& keep, PrunedParameters& done) const;

 private:
  ChannelStep(ElementwiseFunction activation, bool is_pooling, bool keeps_constants);

  ElementwiseFunction activation_;
  bool is_function_ = false;
  bool is_pooling_ = false;
  bool keeps_constants_ = true;
  at::Tensor channel_weight_{};
  std::function<void(int64_t)> set_channels_{};
};

/// For the last layer: reduces its outputs.
PrunedParameters prune_linear(torch::nn::LinearImpl& linear, const ChannelMask& mask,
                              const std::vector<ChannelStep>& steps = {});
PrunedParameters prune_conv2d(torch::nn::Conv2dImpl& conv2d, const ChannelMask& mask,
                              const std::vector<ChannelStep>& steps = {});

/// The general forms, with any number of steps between the layers. In front of a Linear, the channels of a convolution
/// are flattened: channel c becomes the features c·s … c·s + s − 1 with s = in_features / channels.
PrunedParameters prune_linear(torch::nn::LinearImpl& linear1, const ChannelMask& mask,
                              const std::vector<ChannelStep>& steps, torch::nn::LinearImpl& linear2);
PrunedParameters prune_conv2d(torch::nn::Conv2dImpl& conv2d_1, const ChannelMask& mask,
                              const std::vector<ChannelStep>& steps, torch::nn::Conv2dImpl& conv2d_2);
PrunedParameters prune_conv2d(torch::nn::Conv2dImpl& conv2d, const ChannelMask& mask,
                              const std::vector<ChannelStep>& steps, torch::nn::LinearImpl& linear);

/// The forms with the reference's names.
PrunedParameters prune_linear_linear(torch::nn::LinearImpl& linear1, const ChannelMask& mask,
                                     torch::nn::LinearImpl& linear2);
PrunedParameters prune_linear_activation_linear(torch::nn::LinearImpl& linear1, const ChannelMask& mask,
                                                const ChannelStep& activation, torch::nn::LinearImpl& linear2);
PrunedParameters prune_conv2d_conv2d(torch::nn::Conv2dImpl& conv2d_1, const ChannelMask& mask,
                                     torch::nn::Conv2dImpl& conv2d_2);
PrunedParameters prune_conv2d_activation_conv2d(torch::nn::Conv2dImpl& conv2d_1, const ChannelMask& mask,
                                                const ChannelStep& activation, torch::nn::Conv2dImpl& conv2d_2);
PrunedParameters prune_conv2d_activation_pool_conv2d(torch::nn::Conv2dImpl& conv2d_1, const ChannelMask& mask,
                                                     const ChannelStep& activation, const ChannelStep& pool,
                                                     torch::nn::Conv2dImpl& conv2d_2);
PrunedParameters prune_conv2d_pool_activation_conv2d(torch::nn::Conv2dImpl& conv2d_1, const ChannelMask& mask,
                                                     const ChannelStep& pool, const ChannelStep& activation,
                                                     torch::nn::Conv2dImpl& conv2d_2);
PrunedParameters prune_conv2d_pool_flatten_linear(torch::nn::Conv2dImpl& conv2d, const ChannelMask& mask,
                                                  const ChannelStep& pool, torch::nn::LinearImpl& linear);

/// Narrows nothing: hidden rows become zero permanently, with `prune_bias` their bias too.
void prune_conv2d_padded(torch::nn::Conv2dImpl& conv2d, const ChannelMask& mask);

/// The rows of one layer of an LSTM that are kept: bool [4 · hidden_size] each, in the order of the gates i, f, g, o.
/// Every gate of every layer must keep the same number of rows.
struct LSTMLayerMask {
  at::Tensor weight_ih{};
  at::Tensor weight_hh{};
};

/// Prunes all layers of an LSTM and the Linear that reads its output. The kept hidden units are those whose row of the
/// output gate in weight_hh is kept. Outputs are those of the masked LSTM if all gates of a layer hide the same units
/// in both weights and their biases are masked too; otherwise units are combined from rows of different units, as in
/// the reference. Throws on bidirectional LSTMs and projections.
PrunedParameters prune_lstm_output_linear(torch::nn::LSTMImpl& lstm, const std::vector<LSTMLayerMask>& masks,
                                          torch::nn::LinearImpl& linear);
/// The same with a LayerNorm in between. As it gets fewer features, outputs change.
PrunedParameters prune_lstm_output_layernorm_linear(torch::nn::LSTMImpl& lstm, const std::vector<LSTMLayerMask>& masks,
                                                    torch::nn::LayerNormImpl& layernorm, torch::nn::LinearImpl& linear);

}  // namespace transformers
