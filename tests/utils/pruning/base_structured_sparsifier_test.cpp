#include <torch/torch.h>
#include <transformers/utils/io/safetensors.h>
#include <transformers/utils/nn/linear.h>
#include <transformers/utils/pruning/pruners.h>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/pruning/layers.h"
#include "utils/pruning/tensors.h"

namespace transformers {
namespace {

namespace F = torch::nn::functional;
using testing::bools;
using testing::copy_of_state;
using testing::LSTMLinear;
using testing::sequential_of;

torch::nn::Sequential two_layers() {
  torch::manual_seed(5);
  return sequential_of({{"linear", 3, 4, true}, {"relu"}, {"linear", 4, 2, true}});
}

void expect_same_state(const torch::nn::Module& model, const StateDict& expected) {
  for (const auto& entry : state_dict(model)) {
    EXPECT_TENSORS_EQUAL(entry.value(), expected[entry.key()]);
  }
}

TEST(BaseStructuredSparsifierTest, PreparesEverythingWhenNothingIsSaid) {
  auto model = sequential_of({{"conv2d", 1, 2, 3, 0, true}, {"relu"}, {"flatten"}, {"linear", 8, 2, false}});
  const auto before = copy_of_state(*model);
  SaliencyPruner pruner;
  pruner.prepare(model.ptr());
  ASSERT_EQ(pruner.groups().size(), 2U);
  EXPECT_EQ(pruner.groups()[0].tensor_fqn, "0.weight");
  EXPECT_EQ(pruner.groups()[1].module_fqn, "3");
  EXPECT_TENSORS_EQUAL(pruner.mask("0.weight"), bools({1, 1}));
  expect_same_state(*model, before);

  LSTMLinear lstm(3, 4, 2, 2, true);
  SaliencyPruner lstm_pruner;
  lstm_pruner.prepare(lstm.ptr());
  EXPECT_EQ(lstm_pruner.groups().size(), 5U);
}

TEST(BaseStructuredSparsifierTest, MergesDefaultsIntoTheConfig) {
  auto model = two_layers();
  SaliencyPruner pruner({.sparsity_level = 0.25, .prune_bias = false});
  pruner.prepare(model.ptr(),
                 {{.tensor_fqn = "0.weight", .sparsity_level = 0.75}, {.tensor_fqn = "2.weight", .prune_bias = true}});
  EXPECT_EQ(pruner.groups()[0].sparsity_level, 0.75);
  EXPECT_FALSE(pruner.groups()[0].prune_bias);
  EXPECT_EQ(pruner.groups()[1].sparsity_level, 0.25);
  EXPECT_TRUE(pruner.groups()[1].prune_bias);
}

TEST(BaseStructuredSparsifierTest, HidesTheBiasOnlyWithPruneBias) {
  for (const bool prune_bias : {true, false}) {
    auto model = two_layers();
    const auto layer = model->ptr<torch::nn::LinearImpl>(0);
    const auto bias = layer->bias.detach().clone();
    SaliencyPruner pruner({.prune_bias = prune_bias});
    pruner.prepare(model.ptr(), {{.tensor_fqn = "0.weight", .mask = bools({1, 0, 0, 1})}});
    EXPECT_TENSORS_EQUAL(layer->bias.detach(), prune_bias ? bias * bools({1, 0, 0, 1}) : bias);
  }
}

// The reference adds a Linear's bias to dimension 1 and so fails or errs for inputs of three dimensions.
TEST(BaseStructuredSparsifierTest, MasksInputsOfAnyNumberOfDimensions) {
  for (const bool prune_bias : {true, false}) {
    auto model = two_layers();
    SaliencyPruner pruner({.prune_bias = prune_bias});
    pruner.prepare(model.ptr(), {{.tensor_fqn = "0.weight", .mask = bools({1, 0, 0, 1})}});
    const auto input = at::randn({2, 5, 3});
    const auto masked = model->forward(input);
    EXPECT_TENSORS_CLOSE(masked.reshape({10, 2}), model->forward(input.reshape({10, 3})));
    pruner.prune();
    EXPECT_TENSORS_CLOSE(model->forward(input), masked);
  }
}

// In the reference a forward zeroes the bias that prune reads afterwards.
TEST(BaseStructuredSparsifierTest, PrunesTheSameWhetherAForwardRanOrNot) {
  std::vector<StateDict> states;
  for (const bool runs_forward : {true, false}) {
    torch::manual_seed(5);
    auto model = sequential_of({{"conv2d", 1, 3, 3, 0, true}, {"relu"}, {"conv2d", 3, 2, 3, 1, true}});
    SaliencyPruner pruner;
    pruner.prepare(model.ptr(), {{.tensor_fqn = "0.weight", .mask = bools({1, 0, 1})}});
    if (runs_forward) {
      model->forward(at::ones({1, 1, 6, 6}));
    }
    pruner.prune();
    states.push_back(copy_of_state(*model));
  }
  EXPECT_EQ(states[0]["0.bias"][1].item<float>(), 0);
  for (const auto& entry : states[0]) {
    EXPECT_TENSORS_EQUAL(entry.value(), states[1][entry.key()]);
  }
}

TEST(BaseStructuredSparsifierTest, StepsOnlyWhileMaskUpdatesAreEnabled) {
  auto model = two_layers();
  SaliencyPruner pruner;
  pruner.prepare(model.ptr());
  pruner.enable_mask_update = false;
  pruner.step();
  EXPECT_TENSORS_EQUAL(pruner.mask("0.weight"), bools({1, 1, 1, 1}));
  pruner.enable_mask_update = true;
  pruner.step();
  EXPECT_EQ(pruner.mask("0.weight").sum().item<int64_t>(), 2);
}

TEST(BaseStructuredSparsifierTest, SquashLeavesZerosAndShapes) {
  auto model = two_layers();
  SaliencyPruner pruner;
  pruner.prepare(model.ptr());
  pruner.step();
  const auto masked = copy_of_state(*model);
  pruner.squash_mask();
  expect_same_state(*model, masked);
  EXPECT_TRUE(pruner.groups().empty());
  EXPECT_FALSE(ParameterMask::on(model->ptr<torch::nn::LinearImpl>(0)->weight));
  EXPECT_FALSE(ParameterMask::on(model->ptr<torch::nn::LinearImpl>(0)->bias));
}

TEST(BaseStructuredSparsifierTest, PrunesAgainAndAgain) {
  auto model = sequential_of({{"linear", 3, 8, true}, {"tanh"}, {"linear", 8, 2, true}});
  SaliencyPruner pruner;
  for (const int64_t left : {4, 2, 1}) {
    pruner.prepare(model.ptr(), {{.tensor_fqn = "0.weight"}});
    pruner.step();
    pruner.prune();
    EXPECT_EQ(model->ptr<torch::nn::LinearImpl>(0)->weight.size(0), left);
    EXPECT_EQ(model->forward(at::ones({1, 3})).size(1), 2);
  }
}

/// Our own layers, which no torch::nn::Sequential takes, and a function between them.
struct OwnLayersImpl : torch::nn::Module {
  OwnLayersImpl()
      : first(register_module("first", Linear(3, 4))),
        second(register_module("second", Linear(4, 2, /*bias=*/false))) {}
  at::Tensor forward(const at::Tensor& input) { return second(at::silu(first(input))); }
  Linear first, second;
};
TORCH_MODULE(OwnLayers);

TEST(BaseStructuredSparsifierTest, WorksOnOurLinear) {
  OwnLayers model;
  SaliencyPruner pruner({.prune_bias = false});
  pruner.prepare(model.ptr(), {{.tensor_fqn = "first.weight"}});
  pruner.step();
  const auto input = at::randn({2, 3});
  const auto masked = model->forward(input);
  const auto pruned = pruner.prune({{"first", at::silu, "second"}});
  EXPECT_TENSORS_CLOSE(model->forward(input), masked);
  EXPECT_EQ(model->first->options.out_features(), 2);
  EXPECT_EQ(model->second->options.in_features(), 2);
  EXPECT_EQ(pruned.added.size(), 1U);
  EXPECT_TRUE(model->named_parameters().contains("second.bias"));
}

TEST(BaseStructuredSparsifierTest, TrainsOnWithTheSameOptimizerAfterPruning) {
  for (const auto state : {OptimizerState::kDrop, OptimizerState::kNarrow}) {
    torch::manual_seed(2);
    auto model = sequential_of({{"linear", 3, 8, true}, {"tanh"}, {"linear", 8, 1, false}});
    torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(0.05));
    const auto input = at::randn({16, 3});
    const auto target = input.sum(1, true);
    const auto step = [&] {
      optimizer.zero_grad();
      auto loss = (model->forward(input) - target).square().mean();
      loss.backward();
      optimizer.step();
      return loss;
    };
    at::Tensor loss;  // the last graph stays alive while layers are narrowed
    for (int i = 0; i < 20; ++i) {
      loss = step();
    }
    SaliencyPruner pruner({.prune_bias = false});
    pruner.prepare(model.ptr(), {{.tensor_fqn = "0.weight"}});
    pruner.step();
    clear_hidden_state(optimizer);
    step();
    update_optimizer(optimizer, pruner.prune(), state);
    const auto first = step().item<double>();
    for (int i = 0; i < 60; ++i) {
      loss = step();
    }
    EXPECT_LT(loss.item<double>(), first / 2);
    EXPECT_EQ(optimizer.param_groups()[0].params().size(), 4U);
  }
}

TEST(BaseStructuredSparsifierTest, StateGoesThroughAFileIntoAnotherSparsifier) {
  const testing::TemporaryFolder folder;
  auto model = two_layers();
  const auto original = copy_of_state(*model);
  SaliencyPruner pruner({.sparsity_level = 0.25});
  pruner.prepare(model.ptr());
  pruner.step();
  save_safetensors(folder / "model.safetensors", state_dict(*model));
  save_safetensors(folder / "sparsifier.safetensors", pruner.state_dict());

  const auto load = [&](const std::string& name) {
    const SafetensorsFile file(folder / name);
    StateDict state;
    for (const auto& info : file.tensors()) {
      state.insert(info.name, file.tensor(info.name));
    }
    return state;
  };
  auto other = sequential_of({{"linear", 3, 4, true}, {"relu"}, {"linear", 4, 2, true}});
  load_state_dict(*other, load("model.safetensors"));
  FPGMPruner second({.sparsity_level = 0.9});
  second.prepare(other.ptr());
  second.load_state_dict(load("sparsifier.safetensors"));
  EXPECT_TENSORS_EQUAL(second.mask("0.weight"), pruner.mask("0.weight"));
  EXPECT_EQ(second.groups()[0].sparsity_level, 0.25);
  for (const auto& group : second.groups()) {
    FakeStructuredSparsity::on(group.weight)->lift();
    FakeStructuredSparsity::on(group.bias)->lift();
  }
  expect_same_state(*other, original);
}

TEST(BaseStructuredSparsifierTest, RefusesAStateThatDoesNotFit) {
  auto model = two_layers();
  SaliencyPruner pruner;
  pruner.prepare(model.ptr(), {{.tensor_fqn = "0.weight"}});
  const auto fitting = pruner.state_dict();
  const auto changed = [&](const std::string& name, const at::Tensor& value) {
    StateDict state;
    for (const auto& entry : fitting) {
      if (entry.key() != name || value.defined()) {
        state.insert(entry.key(), entry.key() == name ? value : entry.value());
      }
    }
    if (!fitting.contains(name)) {
      state.insert(name, value);
    }
    return state;
  };
  EXPECT_ERROR(pruner.load_state_dict(changed("0.weight.mask", {})), "missing", "0.weight.mask");
  EXPECT_ERROR(pruner.load_state_dict(changed("1.weight.mask", at::ones({4}))), "unexpected", "1.weight.mask");
  EXPECT_ERROR(pruner.load_state_dict(changed("0.weight.mask", bools({1, 0}))), "0.weight.mask", "[4]", "[2]");
  EXPECT_ERROR(pruner.load_state_dict(changed("0.weight.prune_bias", bools({0}))), "prune_bias");
  EXPECT_ERROR(pruner.load_state_dict(changed("0.weight.sparsity_level", at::ones({2}))), "sparsity_level", "[2]");
  EXPECT_ERROR(pruner.load_state_dict(changed("0.weight.hidden", at::ones({2}))), "0.weight.hidden", "[2]");
  EXPECT_TENSORS_EQUAL(pruner.mask("0.weight"), bools({1, 1, 1, 1}));
}

TEST(BaseStructuredSparsifierTest, RefusesABadConfigAndChangesNothing) {
  auto model = two_layers();
  const auto before = copy_of_state(*model);
  SaliencyPruner pruner;
  const auto prepare = [&](const std::vector<SparsityConfig>& config) { pruner.prepare(model.ptr(), config); };
  EXPECT_ERROR(prepare({{.tensor_fqn = "0.weight"}, {.tensor_fqn = "0.wight"}, {.tensor_fqn = "7.weight"}}),
               "'0.wight', '7.weight'");
  EXPECT_ERROR(prepare({{.tensor_fqn = "0.weight"}, {.tensor_fqn = "0.weight"}}), "0.weight", "once");
  EXPECT_ERROR(prepare({{.tensor_fqn = "2.weight"}, {.tensor_fqn = "0.weight", .mask = bools({1, 0})}}), "0.weight",
               "[4]", "[2]");
  EXPECT_ERROR(prepare({{.tensor_fqn = "0.weight", .mask = at::ones({4})}}), "bool");
  EXPECT_ERROR(pruner.prepare(nullptr), "model");
  EXPECT_ERROR(pruner.prepare(torch::nn::Sequential(torch::nn::ReLU()).ptr()), "no Linear, Conv2d or LSTM");
  EXPECT_ERROR(pruner.mask("0.weight"), "0.weight");
  expect_same_state(*model, before);
  EXPECT_FALSE(ParameterMask::on(model->ptr<torch::nn::LinearImpl>(2)->weight));

  prepare({{.tensor_fqn = "0.weight"}});
  EXPECT_ERROR(prepare({{.tensor_fqn = "2.weight"}}), "prepared");
  SaliencyPruner second;
  EXPECT_ERROR(second.prepare(model.ptr()), "0.weight", "already");
}

/// Poolings and flattening as functions, as torchvision's and the reference's models call them.
struct FunctionalImpl : torch::nn::Module {
  explicit FunctionalImpl(F::AvgPool2dFuncOptions average_options) : average(std::move(average_options)) {
    conv1 = register_module("conv1", torch::nn::Conv2d(torch::nn::Conv2dOptions(2, 4, 3)));
    conv2 = register_module("conv2", torch::nn::Conv2d(torch::nn::Conv2dOptions(4, 6, 2)));
    linear = register_module("linear", torch::nn::Linear(24, 3));
  }
  at::Tensor forward(const at::Tensor& input) {
    const auto features = F::avg_pool2d(at::sigmoid(conv1(input)), average);
    return linear(at::relu(F::adaptive_max_pool2d(F::max_pool2d(conv2(features), largest), adaptive)).flatten(1));
  }
  std::vector<Chain> chains() const {
    return {{"conv1", at::sigmoid, average, "conv2", largest, adaptive, at::relu, kFlatten, "linear", kOutput}};
  }

  F::AvgPool2dFuncOptions average;
  F::MaxPool2dFuncOptions largest = F::MaxPool2dFuncOptions(2);
  F::AdaptiveMaxPool2dFuncOptions adaptive = F::AdaptiveMaxPool2dFuncOptions(2);
  torch::nn::Conv2d conv1{nullptr}, conv2{nullptr};
  torch::nn::Linear linear{nullptr};
};
TORCH_MODULE(Functional);

void expect_functional_model_kept(const F::AvgPool2dFuncOptions& average, bool prune_bias, bool narrows_first) {
  const at::NoGradGuard no_grad;
  torch::manual_seed(9);
  Functional model(average);
  SaliencyPruner pruner({.prune_bias = prune_bias});
  pruner.prepare(model.ptr(), {{.tensor_fqn = "conv1.weight"}, {.tensor_fqn = "conv2.weight"}});
  pruner.step();
  const auto input = at::randn({2, 2, 16, 16});
  const auto masked = model(input);
  pruner.prune(model->chains());
  EXPECT_TENSORS_CLOSE(model(input), masked);
  EXPECT_EQ(model->conv1->weight.size(0), narrows_first ? 2 : 4);
  EXPECT_EQ(model->linear->options.in_features(), 12);
}

TEST(BaseStructuredSparsifierTest, PrunesAcrossPoolingsAndFlatteningCalledAsFunctions) {
  for (const bool prune_bias : {true, false}) {
    expect_functional_model_kept(F::AvgPool2dFuncOptions(2), prune_bias, true);
    expect_functional_model_kept(F::AvgPool2dFuncOptions(2).padding(1).count_include_pad(false), prune_bias, true);
    // sigmoid(0) and the hidden biases are constants that an average over padding does not keep.
    expect_functional_model_kept(F::AvgPool2dFuncOptions(2).padding(1), prune_bias, false);
    expect_functional_model_kept(F::AvgPool2dFuncOptions(2).divisor_override(3), prune_bias, false);
  }
}

// The function stands behind the second layer: the first would be narrowed before it is called.
TEST(BaseStructuredSparsifierTest, RefusesFunctionsThatDoNotTakeChannelsApartAndChangesNothing) {
  auto model = sequential_of({{"linear", 3, 4, true}, {"linear", 4, 4, true}, {"linear", 4, 2, true}});
  SaliencyPruner pruner({.prune_bias = false});
  pruner.prepare(model.ptr(), {{.tensor_fqn = "0.weight"}, {.tensor_fqn = "1.weight"}});
  pruner.step();
  const auto masked = copy_of_state(*model);
  const auto expect_refused = [&](const ElementwiseFunction& function, const std::string& fragment) {
    EXPECT_ERROR(pruner.prune({{"0", at::relu, "1", function, "2", kOutput}}), "'1'", "a function after it", fragment);
    EXPECT_ERROR(pruner.prune({{"0", at::relu, "1", function, kOutput}}), "'1'", "a function after it", fragment);
    expect_same_state(*model, masked);
    EXPECT_EQ(pruner.groups().size(), 2U);
  };
  expect_refused([](const at::Tensor& x) { return at::max_pool2d(x, 2); }, "failed: ");
  expect_refused([](const at::Tensor& x) { return x * at::arange(1, 5); }, "failed: ");
  expect_refused([](const at::Tensor& x) { return x.narrow(1, 0, 1); }, "keep the shape, of [1, 4] it made [1, 1]");
  expect_refused([](const at::Tensor&) { return at::Tensor(); }, "keep the shape");
  expect_refused([](const at::Tensor& x) { return at::softmax(x, 1); }, "mixes them");
  expect_refused([](const at::Tensor& x) { return x - x.mean(-1, true); }, "mixes them");
  expect_refused([](const at::Tensor& x) { return x.cumsum(-1); }, "mixes them");
  expect_refused([](const at::Tensor& x) { return std::get<0>(x.sort(-1)); }, "mixes them");
}

TEST(BaseStructuredSparsifierTest, TakesFunctionsInEveryFloatingType) {
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf}) {
    auto model = sequential_of({{"linear", 3, 70, true}, {"linear", 70, 2, true}});
    model->to(dtype);
    SaliencyPruner pruner;
    pruner.prepare(model.ptr(), {{.tensor_fqn = "0.weight"}});
    pruner.step();
    pruner.prune({{"0", at::silu, [](const at::Tensor& x) { return at::gelu(x); }, at::log_sigmoid, "1"}});
    EXPECT_EQ(model->ptr<torch::nn::LinearImpl>(0)->weight.size(0), 35);
  }
}

// The norm of the pruned model is over the units that stay alone, so it is no norm of the masked model.
TEST(BaseStructuredSparsifierTest, AnLSTMBeforeALayerNormGivesTheNormOfTheUnitsThatStay) {
  const at::NoGradGuard no_grad;
  torch::manual_seed(4);
  LSTMLinear model(3, 6, 2, 2, /*with_norm=*/true);
  model->norm->weight.normal_();
  model->norm->bias.normal_();
  const auto keep = bools({1, 0, 1, 1, 0, 1});
  std::vector<SparsityConfig> config;
  for (const char* weight : {"weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1"}) {
    config.push_back({.tensor_fqn = std::string("lstm.") + weight, .prune_bias = true, .mask = keep.repeat({4})});
  }
  SaliencyPruner pruner;
  pruner.prepare(model.ptr(), config);
  const auto input = at::randn({5, 2, 3});
  const auto units = keep.nonzero().flatten();
  const auto kept = [&](const at::Tensor& tensor) { return tensor.index_select(-1, units); };
  const auto normed = at::layer_norm(kept(std::get<0>(model->lstm(input))), {4}, kept(model->norm->weight),
                                     kept(model->norm->bias), model->norm->options.eps());
  const auto expected = at::linear(normed, kept(model->linear->weight), model->linear->bias);
  const auto masked = model(input);
  pruner.prune({{"lstm", "norm", "linear"}});
  EXPECT_EQ(model->lstm->options.hidden_size(), 4);
  EXPECT_TENSORS_CLOSE(model(input), expected);
  EXPECT_FALSE(model(input).allclose(masked, 1e-3, 1e-3));
}

TEST(BaseStructuredSparsifierTest, RefusesAPartlyMaskedLSTMAndUnequalGates) {
  LSTMLinear model(3, 2, 2, 2, false);
  const auto before = copy_of_state(*model);
  const std::vector<Chain> chains = {{"lstm", "linear"}};
  const auto config = [](const std::string& weight, const at::Tensor& mask) {
    return SparsityConfig{.tensor_fqn = "lstm." + weight, .prune_bias = false, .mask = mask};
  };
  const auto half = bools({1, 0, 1, 0, 1, 0, 1, 0});
  const auto all = bools({1, 1, 1, 1, 1, 1, 1, 1});
  const auto expect_refused = [&](const std::vector<SparsityConfig>& masks, const std::string& fragment) {
    SaliencyPruner pruner;
    pruner.prepare(model.ptr(), masks);
    EXPECT_ERROR(pruner.prune(chains), "lstm", fragment);
    for (const auto& group : pruner.groups()) {
      FakeStructuredSparsity::on(group.weight)->lift();
    }
    expect_same_state(*model, before);
  };
  expect_refused({config("weight_ih_l0", half), config("weight_hh_l0", half)}, "weight_ih_l1, weight_hh_l1");
  const auto with_last = [&](const at::Tensor& last) {
    return std::vector{config("weight_ih_l0", half), config("weight_hh_l0", half), config("weight_ih_l1", half),
                       config("weight_hh_l1", last)};
  };
  expect_refused(with_last(bools({1, 0, 1, 0, 1, 1, 1, 0})), "1, 1, 2 and 1");
  expect_refused(with_last(all), "same number of units");
}

}  // namespace
}  // namespace transformers
