#include <torch/torch.h>
#include <transformers/utils/nn/linear.h>
#include <transformers/utils/nn/packed_linear.h>
#include <transformers/utils/pruning/prune_functions.h>

#include "support/tensor_assertions.h"
#include "utils/pruning/tensors.h"

namespace transformers {
namespace {

namespace nn = torch::nn;
using testing::bools;

nn::Conv2dOptions conv_options(int64_t in, int64_t out, int64_t kernel) { return {in, out, kernel}; }

/// Layers as they are while a sparsifier masks them.
template <typename Layer>
void hide(Layer& layer, const ChannelMask& mask) {
  const at::NoGradGuard no_grad;
  const auto hidden = mask.keep.logical_not().nonzero().flatten();
  layer->weight.index_fill_(0, hidden, 0);
  if (layer->bias.defined() && mask.prune_bias) {
    layer->bias.index_fill_(0, hidden, 0);
  }
}

TEST(PruneLinearTest, ALastLayerKeepsItsBias) {
  for (const bool prune_bias : {true, false}) {
    nn::Linear linear(3, 4);
    const auto weight = linear->weight.detach().clone(), bias = linear->bias.detach().clone();
    const auto rows = at::tensor({1, 3}, at::kLong);
    const auto pruned = prune_linear(*linear, {bools({0, 1, 0, 1}), prune_bias});
    EXPECT_TENSORS_EQUAL(linear->weight.detach(), weight.index_select(0, rows));
    EXPECT_TENSORS_EQUAL(linear->bias.detach(), bias.index_select(0, rows));
    EXPECT_EQ(linear->options.out_features(), 2);
    ASSERT_EQ(pruned.narrowed.size(), 2U);
    EXPECT_EQ(pruned.narrowed[0].old_sizes, (std::vector<int64_t>{4, 3}));
    EXPECT_TENSORS_EQUAL(pruned.narrowed[0].select(weight), linear->weight.detach());
  }
}

TEST(PruneLinearTest, LayersAndParametersStayTheSameObjects) {
  nn::Linear first(3, 4), second(4, 2);
  const auto* weight = first->weight.unsafeGetTensorImpl();
  const auto* next_weight = second->weight.unsafeGetTensorImpl();
  prune_linear_linear(*first, {bools({0, 1, 0, 1})}, *second);
  EXPECT_EQ(first->named_parameters()["weight"].unsafeGetTensorImpl(), weight);
  EXPECT_EQ(second->named_parameters()["weight"].unsafeGetTensorImpl(), next_weight);
  EXPECT_TRUE(first->weight.is_leaf() && first->weight.requires_grad());
  EXPECT_EQ(second->options.in_features(), 2);
  second->forward(first->forward(at::ones({1, 3}))).sum().backward();
  EXPECT_EQ(first->weight.grad().sizes(), first->weight.sizes());
}

// By hand: row 0 goes, its bias 2 becomes relu(2) = 2 and weighs 5, so 10 is added to the next bias of 1.
TEST(PruneLinearTest, MovesAConstantIntoTheNextBias) {
  nn::Linear first(1, 2), second(2, 1);
  first->bias.set_data(at::tensor({2.F, 3.F}));
  second->weight.set_data(at::tensor({5.F, 7.F}).reshape({1, 2}));
  second->bias.set_data(at::tensor({1.F}));
  prune_linear_activation_linear(*first, {bools({0, 1}), false}, ChannelStep(at::relu), *second);
  EXPECT_TENSORS_EQUAL(second->bias.detach(), at::tensor({11.F}));
  EXPECT_TENSORS_EQUAL(second->weight.detach(), at::tensor({7.F}).reshape({1, 1}));
}

// The reference leaves the next bias as it is where the activation of zero is not zero: sigmoid(0) = 0.5.
TEST(PruneLinearTest, MovesTheActivationOfZeroAlsoWithPruneBias) {
  nn::Linear first(1, 2), second(nn::LinearOptions(2, 1).bias(false));
  second->weight.set_data(at::tensor({6.F, 7.F}).reshape({1, 2}));
  const auto pruned = prune_linear_activation_linear(*first, {bools({0, 1}), true}, ChannelStep(at::sigmoid), *second);
  EXPECT_TENSORS_EQUAL(second->bias.detach(), at::tensor({3.F}));
  EXPECT_TRUE(second->options.bias());
  ASSERT_EQ(pruned.added.size(), 1U);
  EXPECT_TRUE(pruned.added[0].parameter.is_same(second->named_parameters()["bias"]));
  EXPECT_TRUE(pruned.added[0].beside.is_same(second->weight));
}

TEST(PruneLinearTest, TakesFunctionsThatLibTorchHasNoModulesFor) {
  for (const bool prune_bias : {true, false}) {
    for (const auto& function : {ElementwiseFunction(at::hardswish), ElementwiseFunction(at::hardsigmoid)}) {
      torch::manual_seed(4);
      nn::Linear first(3, 4), second(4, 2);
      const ChannelMask mask{bools({0, 1, 0, 1}), prune_bias};
      hide(first, mask);
      const auto input = at::randn({5, 3});
      const auto masked = second->forward(function(first->forward(input)));
      prune_linear_activation_linear(*first, mask, ChannelStep(function), *second);
      EXPECT_TENSORS_CLOSE(second->forward(function(first->forward(input))), masked);
    }
  }
}

TEST(PruneLinearTest, NarrowsAPReLUWithAWeightForEachChannel) {
  nn::Linear first(3, 4), second(4, 2);
  nn::PReLU prelu(nn::PReLUOptions().num_parameters(4));
  prelu->weight.set_data(at::tensor({0.1F, 0.2F, 0.3F, 0.4F}));
  const ChannelMask mask{bools({0, 1, 0, 1}), false};
  hide(first, mask);
  const auto input = at::randn({5, 3});
  const auto masked = second->forward(prelu->forward(first->forward(input)));
  prune_linear_activation_linear(*first, mask, *ChannelStep::of(*prelu), *second);
  EXPECT_TENSORS_EQUAL(prelu->weight.detach(), at::tensor({0.2F, 0.4F}));
  EXPECT_EQ(prelu->options.num_parameters(), 2);
  EXPECT_TENSORS_CLOSE(second->forward(prelu->forward(first->forward(input))), masked);
}

TEST(ChannelStepTest, LeavesTheModulesModeAsItWas) {
  nn::RReLU rrelu;
  rrelu->train();
  const auto step = ChannelStep::of(*rrelu);
  const auto before = at::full({1, 2}, -1.F);
  EXPECT_TENSORS_CLOSE(*step->constants(before), before * ((1.0 / 8 + 1.0 / 3) / 2));
  EXPECT_TRUE(rrelu->is_training());
  nn::ReLU in_place(nn::ReLUOptions(true));
  ChannelStep::of(*in_place)->constants(before);
  EXPECT_TENSORS_EQUAL(before, at::full({1, 2}, -1.F));
}

TEST(ChannelStepTest, KnowsNoModuleThatMixesChannels) {
  nn::Softmax softmax(1);
  nn::BatchNorm2d norm(3);
  nn::AvgPool1d pool(2);
  EXPECT_FALSE(ChannelStep::of(*softmax));
  EXPECT_FALSE(ChannelStep::of(*norm));
  EXPECT_FALSE(ChannelStep::of(*pool));
}

struct ConvPair {
  explicit ConvPair(const nn::Conv2dOptions& second_options, bool bias = true) {
    torch::manual_seed(6);
    first = nn::Conv2d(conv_options(2, 4, 3).bias(bias));
    second = nn::Conv2d(second_options);
    input = at::randn({2, 2, 8, 8});
  }
  at::Tensor run() { return second->forward(at::relu(first->forward(input))); }
  bool prune(const ChannelMask& mask) {
    hide(first, mask);
    masked = run();
    prune_conv2d_activation_conv2d(*first, mask, ChannelStep(at::relu), *second);
    EXPECT_TRUE(testing::tensors_close_to_largest(run().detach(), masked.detach(), 1e-6));
    return first->weight.size(0) < 4;
  }
  nn::Conv2d first{nullptr}, second{nullptr};
  at::Tensor input, masked;
};

const at::Tensor& half() {
  static const auto mask = bools({0, 1, 0, 1});
  return mask;
}

TEST(PruneConv2dTest, NarrowsNothingBeforePaddingWhenTheFirstHasABias) {
  for (const bool prune_bias : {true, false}) {
    ConvPair layers(conv_options(4, 3, 3).padding(1));
    const auto bias = layers.first->bias.detach().clone();
    EXPECT_FALSE(layers.prune({half(), prune_bias}));
    EXPECT_EQ(layers.second->weight.size(1), 4);
    EXPECT_EQ(layers.first->weight[0].abs().sum().item<float>(), 0);
    EXPECT_TENSORS_EQUAL(layers.first->bias.detach(), prune_bias ? bias * half() : bias);
  }
}

TEST(PruneConv2dTest, NarrowsBeforePaddingWhenTheFirstHasNoBias) {
  for (const bool prune_bias : {true, false}) {
    ConvPair layers(conv_options(4, 3, 3).padding(1), /*bias=*/false);
    EXPECT_TRUE(layers.prune({half(), prune_bias}));
    EXPECT_EQ(layers.second->options.in_channels(), 2);
  }
}

TEST(PruneConv2dTest, ReadsPaddingThatIsGivenAsAWord) {
  EXPECT_FALSE(ConvPair(conv_options(4, 3, 3).padding(torch::kSame)).prune({half(), false}));
  EXPECT_TRUE(ConvPair(conv_options(4, 3, 1).padding(torch::kSame)).prune({half(), false}));
  EXPECT_TRUE(ConvPair(conv_options(4, 3, 3).padding(torch::kValid)).prune({half(), false}));
  EXPECT_FALSE(ConvPair(conv_options(4, 3, 3).padding({0, 1})).prune({half(), false}));
}

TEST(PruneConv2dTest, NarrowsNothingBeforePaddingWhenTheActivationOfZeroIsNotZero) {
  nn::Conv2d first(conv_options(2, 4, 3).bias(false)), second(conv_options(4, 3, 3).padding(1));
  prune_conv2d_activation_conv2d(*first, {half()}, ChannelStep(at::sigmoid), *second);
  EXPECT_EQ(first->weight.size(0), 4);
}

TEST(PruneConv2dTest, NarrowsNothingWhereAPoolingAveragesConstantsWithItsPadding) {
  const auto narrows = [](const nn::AvgPool2dOptions& options, bool prune_bias) {
    torch::manual_seed(6);
    nn::Conv2d first(conv_options(2, 4, 3)), second(conv_options(4, 3, 2));
    nn::AvgPool2d pool(options);
    const ChannelMask mask{half(), prune_bias};
    hide(first, mask);
    const auto input = at::randn({2, 2, 8, 8});
    const auto run = [&] { return second->forward(pool->forward(at::relu(first->forward(input)))).detach(); };
    const auto masked = run();
    prune_conv2d_activation_pool_conv2d(*first, mask, ChannelStep(at::relu), *ChannelStep::of(*pool), *second);
    EXPECT_TRUE(testing::tensors_close_to_largest(run(), masked, 1e-6));
    return first->weight.size(0) < 4;
  };
  const auto padded = nn::AvgPool2dOptions(2).padding(1);
  EXPECT_FALSE(narrows(padded, false));
  EXPECT_TRUE(narrows(padded, true));
  EXPECT_TRUE(narrows(nn::AvgPool2dOptions(2).padding(1).count_include_pad(false), false));
  EXPECT_FALSE(narrows(nn::AvgPool2dOptions(2).divisor_override(3), false));
  EXPECT_TRUE(narrows(nn::AvgPool2dOptions(3).ceil_mode(true), false));
}

TEST(PruneConv2dTest, RepeatsChannelsForTheLinearAfterFlattening) {
  for (const bool bias : {true, false}) {
    torch::manual_seed(6);
    nn::Conv2d conv(conv_options(2, 4, 3).bias(bias));
    nn::AdaptiveMaxPool2d pool(nn::AdaptiveMaxPool2dOptions({3, 2}));
    nn::Linear linear(24, 5);
    const ChannelMask mask{half(), false};
    hide(conv, mask);
    const auto input = at::randn({2, 2, 8, 8});
    const auto run = [&] { return linear->forward(pool->forward(conv->forward(input)).flatten(1)).detach(); };
    const auto masked = run();
    prune_conv2d_pool_flatten_linear(*conv, mask, *ChannelStep::of(*pool), *linear);
    EXPECT_EQ(linear->options.in_features(), 12);
    EXPECT_TRUE(testing::tensors_close_to_largest(run(), masked, 1e-6));
  }
}

TEST(PruneConv2dTest, PaddedLeavesShapesAndZeroesRows) {
  nn::Conv2d conv(conv_options(2, 4, 3));
  const auto bias = conv->bias.detach().clone();
  prune_conv2d_padded(*conv, {half(), false});
  EXPECT_EQ(conv->weight[2].abs().sum().item<float>(), 0);
  EXPECT_TENSORS_EQUAL(conv->bias.detach(), bias);
}

TEST(PruneFunctionsTest, RefuseWhatTheyCannotNarrowAndChangeNothing) {
  nn::Linear first(3, 4), second(4, 2), other(5, 2);
  const auto before = first->weight.detach().clone();
  EXPECT_ERROR(prune_linear(*first, {bools({1, 0})}), "LinearImpl", "[4]", "[2]");
  EXPECT_ERROR(prune_linear(*first, {at::ones({4})}), "bool");
  EXPECT_ERROR(prune_linear(*first, {}), "bool", "none");
  EXPECT_ERROR(prune_linear(*first, {bools({0, 0, 0, 0})}), "hides all", "4");
  EXPECT_ERROR(prune_linear_linear(*first, {half()}, *other), "4", "5");
  EXPECT_ERROR(ChannelStep{ElementwiseFunction()}, "function");
  nn::PReLU prelu(nn::PReLUOptions().num_parameters(3));
  EXPECT_ERROR(prune_linear_activation_linear(*first, {half()}, *ChannelStep::of(*prelu), *second), "PReLU", "4", "3");

  nn::Conv2d grouped(conv_options(2, 4, 3).groups(2)), plain(conv_options(2, 4, 3));
  EXPECT_ERROR(prune_conv2d(*grouped, {half()}), "groups");
  EXPECT_ERROR(prune_conv2d_conv2d(*plain, {half()}, *nn::Conv2d(conv_options(4, 4, 3).groups(4))), "groups");
  nn::ReLU relu;
  EXPECT_ERROR(prune_conv2d_pool_flatten_linear(*plain, {half()}, *ChannelStep::of(*relu), *other), "flattening", "4",
               "5");

  Linear packed(3, 4);
  packed->set_method(std::make_shared<PackedLinear>(packed->weight));
  EXPECT_ERROR(prune_linear(*packed, {half()}), "method");
  EXPECT_TENSORS_EQUAL(first->weight.detach(), before);
}

/// Both weights of a layer keep the same units in all gates.
LSTMLayerMask units(const at::Tensor& keep) { return {keep.repeat({4}), keep.repeat({4})}; }

TEST(PruneFunctionsTest, RefuseLayersThatShareATensorAndChangeNothing) {
  const ChannelMask mask{bools({0, 1, 0})};
  const auto expect_refused = [&](nn::Linear& first, const std::vector<ChannelStep>& steps, nn::Linear& next) {
    EXPECT_ERROR(prune_linear(*first, mask, steps, *next), "Linear", "one tensor");
    EXPECT_EQ(first->weight.sizes(), (std::vector<int64_t>{3, 3}));
    EXPECT_EQ(next->weight.sizes(), (std::vector<int64_t>{3, 3}));
  };
  nn::Linear first(3, 3), tied(3, 3);
  tied->weight = first->weight;
  expect_refused(first, {}, first);
  expect_refused(first, {}, tied);
  nn::PReLU prelu(nn::PReLUOptions().num_parameters(3));
  nn::Linear next(3, 3);
  expect_refused(first, {*ChannelStep::of(*prelu), *ChannelStep::of(*prelu)}, next);

  nn::LSTM lstm(nn::LSTMOptions(2, 2));
  nn::Linear after(2, 2);
  nn::LayerNorm norm(nn::LayerNormOptions({2}));
  norm->bias = after->bias;
  EXPECT_ERROR(prune_lstm_output_layernorm_linear(*lstm, {units(bools({1, 0}))}, *norm, *after), "one tensor");
}

TEST(PruneLSTMTest, GivesTheOutputsOfTheMaskedLSTMWhenGatesAgree) {
  for (const int64_t layers : {1, 2}) {
    torch::manual_seed(8);
    nn::LSTM lstm(nn::LSTMOptions(3, 4).num_layers(layers).batch_first(true));
    nn::Linear linear(4, 2);
    const auto keep = std::vector<at::Tensor>{bools({1, 0, 1, 0}), bools({0, 1, 1, 0})};
    std::vector<LSTMLayerMask> masks;
    {
      const at::NoGradGuard no_grad;
      for (int64_t layer = 0; layer < layers; ++layer) {
        masks.push_back(units(keep[static_cast<size_t>(layer)]));
        for (const char* kind : {"weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l"}) {
          auto parameter = lstm->named_parameters()[kind + std::to_string(layer)];
          parameter.index_fill_(0, masks.back().weight_ih.logical_not().nonzero().flatten(), 0);
        }
      }
    }
    const auto input = at::randn({2, 5, 3});
    const auto masked = linear->forward(std::get<0>(lstm->forward(input)));
    const auto* identity = lstm->named_parameters()["weight_hh_l0"].unsafeGetTensorImpl();
    prune_lstm_output_linear(*lstm, masks, *linear);
    const auto output = linear->forward(std::get<0>(lstm->forward(input)));
    EXPECT_TENSORS_CLOSE(output, masked);
    EXPECT_EQ(lstm->options.hidden_size(), 2);
    EXPECT_EQ(lstm->named_parameters()["weight_hh_l0"].unsafeGetTensorImpl(), identity);
    output.sum().backward();
    EXPECT_EQ(lstm->named_parameters()["weight_hh_l0"].grad().sizes(), at::IntArrayRef({8, 2}));
  }
}

TEST(PruneLSTMTest, WorksWithoutBiasesAndWithALayerNormWithoutWeights) {
  nn::LSTM lstm(nn::LSTMOptions(3, 4).bias(false));
  nn::LayerNorm norm(nn::LayerNormOptions({4}).elementwise_affine(false));
  nn::Linear linear(4, 2);
  prune_lstm_output_layernorm_linear(*lstm, {units(bools({1, 0, 1, 0}))}, *norm, *linear);
  EXPECT_EQ(norm->options.normalized_shape(), std::vector<int64_t>{2});
  EXPECT_EQ(linear->forward(norm->forward(std::get<0>(lstm->forward(at::ones({1, 1, 3}))))).size(2), 2);
}

TEST(PruneLSTMTest, RefusesWhatWouldNotFitTogether) {
  nn::LSTM lstm(nn::LSTMOptions(3, 2)), both_ways(nn::LSTMOptions(3, 2).bidirectional(true)),
      projected(nn::LSTMOptions(3, 2).proj_size(1));
  nn::Linear linear(2, 2), wide(4, 2);
  nn::LayerNorm norm(nn::LayerNormOptions({3}));
  const std::vector<LSTMLayerMask> masks = {units(bools({1, 0}))};
  const auto unequal = bools({1, 0, 1, 0, 1, 0, 1, 1});
  EXPECT_ERROR(prune_lstm_output_linear(*lstm, {{masks[0].weight_ih, unequal}}, *linear), "1, 1, 1 and 2");
  EXPECT_ERROR(prune_lstm_output_linear(*lstm, {{unequal, masks[0].weight_hh}}, *linear), "weight_ih_l0");
  EXPECT_ERROR(prune_lstm_output_linear(*lstm, {{masks[0].weight_ih, units(bools({1, 1})).weight_hh}}, *linear),
               "same number of units");
  EXPECT_ERROR(prune_lstm_output_linear(*lstm, {{masks[0].weight_ih, bools({1, 0})}}, *linear), "[8]", "[2]");
  EXPECT_ERROR(prune_lstm_output_linear(*lstm, {units(bools({0, 0}))}, *linear), "hides all");
  EXPECT_ERROR(prune_lstm_output_linear(*lstm, {}, *linear), "1 layers", "0");
  EXPECT_ERROR(prune_lstm_output_linear(*lstm, masks, *wide), "2", "4");
  EXPECT_ERROR(prune_lstm_output_linear(*both_ways, masks, *linear), "bidirectional");
  EXPECT_ERROR(prune_lstm_output_linear(*projected, masks, *linear), "projections");
  EXPECT_ERROR(prune_lstm_output_layernorm_linear(*lstm, masks, *norm, *linear), "LayerNorm", "2");
  EXPECT_EQ(lstm->options.hidden_size(), 2);
}

}  // namespace
}  // namespace transformers
