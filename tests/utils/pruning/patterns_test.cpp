#include <torch/torch.h>
#include <transformers/utils/pruning/pruners.h>
#include <transformers/utils/pruning/stack_sequential.h>

#include "support/tensor_assertions.h"
#include "utils/pruning/layers.h"

namespace transformers {
namespace {

namespace nn = torch::nn;
using testing::LSTMLinear;

std::vector<std::string> texts(const Chain& chain) {
  std::vector<std::string> names;
  for (const auto& step : chain) {
    const auto* name = std::get_if<std::string>(&step);
    names.push_back(name != nullptr ? *name : std::holds_alternative<ChainOutput>(step) ? "output" : "function");
  }
  return names;
}

/// A model that is no Sequential and holds some.
struct BranchedImpl : nn::Module {
  BranchedImpl()
      : features(register_module("features", nn::Sequential(nn::Linear(4, 4), nn::ReLU(), nn::Linear(4, 4)))),
        left(register_module("left", nn::Linear(4, 2))),
        right(register_module("right", nn::Linear(4, 2))) {}
  at::Tensor forward(const at::Tensor& input) {
    const auto middle = features->forward(input);
    return left(middle) + right(middle);
  }
  nn::Sequential features;
  nn::Linear left, right;
};
TORCH_MODULE(Branched);

TEST(SequentialChainsTest, FlattenNestedSequentialsUnderTheirNames) {
  nn::Sequential model(StackSequential(nn::Linear(2, 2), StackSequential(nn::ReLU(), nn::Linear(2, 2))), nn::Tanh());
  const auto chains = sequential_chains(*model);
  ASSERT_EQ(chains.size(), 1U);
  EXPECT_EQ(texts(chains[0]), (std::vector<std::string>{"0.0", "0.1.0", "0.1.1", "1", "output"}));
}

TEST(SequentialChainsTest, LeaveTheEndOfAnInnerSequentialOpen) {
  const auto chains = sequential_chains(*Branched());
  ASSERT_EQ(chains.size(), 1U);
  EXPECT_EQ(texts(chains[0]), (std::vector<std::string>{"features.0", "features.1", "features.2"}));
  nn::Sequential outer{StackSequential(StackSequential(Branched()))};
  EXPECT_EQ(sequential_chains(*outer).size(), 2U);
}

TEST(MatchBlocksTest, FindsWhatReadsALayerAcrossNestedSequentials) {
  nn::Sequential model(StackSequential(nn::Linear(2, 3), nn::ReLU()), nn::Dropout(), StackSequential(nn::Linear(3, 2)));
  const auto blocks = match_blocks(*model, sequential_chains(*model), {"0.0", "2.0"});
  ASSERT_EQ(blocks.size(), 2U);
  EXPECT_EQ(blocks[0].next_name, "2.0");
  EXPECT_EQ(blocks[0].steps.size(), 2U);
  EXPECT_EQ(blocks[1].next, nullptr);
}

TEST(StackSequentialTest, RunsItsModulesInOrderAlsoWhenCloned) {
  nn::Sequential model(StackSequential(nn::Linear(2, 3), nn::ReLU()), nn::Linear(3, 2));
  const auto input = at::ones({1, 2});
  auto copy = std::dynamic_pointer_cast<nn::SequentialImpl>(model->clone());
  EXPECT_TENSORS_EQUAL(copy->forward(input), model->forward(input));
}

TEST(MatchBlocksTest, TakesChainsOfModulesAndFunctions) {
  Branched model;
  const auto double_it = [](const at::Tensor& tensor) { return 2 * tensor; };
  const auto blocks =
      match_blocks(*model, {{"features.2", at::relu, double_it, "left", kOutput}}, {"features.2", "left"});
  EXPECT_EQ(blocks[0].steps.size(), 2U);
  EXPECT_EQ(blocks[0].next, model->left.ptr());
  EXPECT_EQ(blocks[1].next, nullptr);

  LSTMLinear lstm(2, 3, 2, 1, true);
  EXPECT_EQ(match_blocks(*lstm, {{"lstm", "norm", "linear"}}, {"lstm"})[0].norm, lstm->norm.ptr());
}

TEST(MatchBlocksTest, TakesPoolingsAndFlatteningAsFunctions) {
  const auto conv = [] { return nn::Conv2d(nn::Conv2dOptions(2, 2, 1)); };
  nn::Sequential model(conv(), conv(), nn::Linear(8, 2), nn::Linear(2, 2));
  const auto match = [&](const Chain& chain) { return match_blocks(*model, {chain}, {*std::get_if<0>(&chain[0])})[0]; };
  const auto block = match({"1", at::relu, nn::functional::MaxPool2dFuncOptions(2),
                            nn::functional::AdaptiveAvgPool2dFuncOptions(2), kFlatten, at::tanh, "2"});
  EXPECT_EQ(block.next_name, "2");
  EXPECT_EQ(block.steps.size(), 4U);
  EXPECT_EQ(match({"0", nn::functional::AvgPool2dFuncOptions(2), "1"}).next_name, "1");
  EXPECT_EQ(match({"0", nn::functional::AdaptiveMaxPool2dFuncOptions(2), "1"}).next_name, "1");
  EXPECT_ERROR(match({"2", nn::functional::MaxPool2dFuncOptions(2), "3"}), "'2'", "does not go on");
  EXPECT_ERROR(match({"2", kFlatten, "3"}), "'2'", "does not go on");
  EXPECT_ERROR(match({"1", kFlatten, nn::functional::MaxPool2dFuncOptions(2), "2"}), "'1'", "does not go on");
  EXPECT_ERROR(match({"1", kFlatten, kFlatten, "2"}), "'1'", "does not go on");
  EXPECT_ERROR(match({"0", kFlatten, "1"}), "'0'", "'1'", "Conv2d");
}

std::vector<PruneBlock> match(const nn::Sequential& model, const std::string& layer) {
  return match_blocks(*model, sequential_chains(*model), {layer});
}

TEST(MatchBlocksTest, RefusesWhatNoPatternKnowsByName) {
  const auto conv = [] { return nn::Conv2d(nn::Conv2dOptions(2, 2, 1)); };
  EXPECT_ERROR(match(nn::Sequential(conv(), nn::BatchNorm2d(2), conv()), "0"), "'0'", "'1'", "BatchNorm2d");
  EXPECT_ERROR(match(nn::Sequential(nn::Linear(2, 2), nn::Softmax(1), nn::Linear(2, 2)), "0"), "'1'", "Softmax");
  EXPECT_ERROR(match(nn::Sequential(nn::Linear(2, 2), nn::Functional(at::relu), nn::Linear(2, 2)), "0"), "Functional");
  EXPECT_ERROR(match(nn::Sequential(nn::Linear(2, 2), nn::MaxPool2d(2), nn::Linear(2, 2)), "0"), "MaxPool2d");
  EXPECT_ERROR(match(nn::Sequential(nn::Linear(2, 2), conv()), "0"), "'1'", "Conv2d");
  EXPECT_ERROR(match(nn::Sequential(conv(), nn::Linear(2, 2)), "0"), "'1'", "Linear");
  EXPECT_ERROR(match(nn::Sequential(conv(), nn::Flatten(nn::FlattenOptions().start_dim(0)), nn::Linear(2, 2)), "0"),
               "Flatten");
  EXPECT_ERROR(match(nn::Sequential(conv(), nn::Flatten(), nn::ReLU()), "0"), "'0'", "does not go on");
  EXPECT_ERROR(match(nn::Sequential(nn::LSTM(2, 2), nn::ReLU(), nn::Linear(2, 2)), "0"), "'1'", "ReLU");
  EXPECT_ERROR(match(nn::Sequential(nn::Embedding(2, 2), nn::Linear(2, 2)), "0"), "'0'", "Embedding", "only Linear");
}

TEST(MatchBlocksTest, RefusesBranchesAndOpenEnds) {
  Branched model;
  const auto chains = sequential_chains(*model);
  EXPECT_ERROR(match_blocks(*model, chains, {"features.2"}), "'features.2'", "not known");
  EXPECT_ERROR(match_blocks(*model, chains, {"left"}), "'left'", "not known");
  EXPECT_ERROR(match_blocks(*model, {{"features.2", "left"}, {"features.2", "right"}}, {"features.2"}), "'features.2'",
               "branch");
  EXPECT_ERROR(match_blocks(*model, {{"features.0", "features.1"}}, {"features.0"}), "'features.0'", "end");
  EXPECT_ERROR(match_blocks(*model, {{"left", "middle"}, {"end", kOutput}}, {"left"}), "'middle', 'end'");
  EXPECT_ERROR(match_blocks(*model, {{kOutput, "left"}}, {"left"}), "must end");
}

TEST(MatchBlocksTest, RefusesAClassThatDerivesFromALayer) {
  struct ScaledImpl : nn::LinearImpl {
    using nn::LinearImpl::LinearImpl;
    at::Tensor forward(const at::Tensor& input) { return 2 * nn::LinearImpl::forward(input); }
  };
  nn::Sequential model;
  model->push_back(std::make_shared<ScaledImpl>(2, 2));
  model->push_back(nn::Linear(2, 2));
  EXPECT_ERROR(match(model, "0"), "'0'", "cannot be pruned");
}

/// What lies between two layers, with a forward of its own.
template <typename Base>
struct SquaredImpl : Base {
  using Base::Base;
  at::Tensor forward(const at::Tensor& input) { return input.square(); }
};

template <typename Base, typename... Arguments>
nn::Sequential with_own_step(const nn::AnyModule& first, const nn::AnyModule& last, const Arguments&... arguments) {
  nn::Sequential model;
  model->push_back(first);
  model->push_back(std::make_shared<SquaredImpl<Base>>(arguments...));
  model->push_back(last);
  return model;
}

TEST(MatchBlocksTest, RefusesAClassThatDerivesFromAStep) {
  const nn::AnyModule linear(nn::Linear(2, 2)), conv(nn::Conv2d(nn::Conv2dOptions(2, 2, 1)));
  EXPECT_ERROR(match(with_own_step<nn::ReLUImpl>(linear, linear), "0"), "'0'", "'1'", "Squared");
  EXPECT_ERROR(match(with_own_step<nn::PReLUImpl>(linear, linear), "0"), "'0'", "'1'", "Squared");
  EXPECT_ERROR(match(with_own_step<nn::IdentityImpl>(linear, linear), "0"), "'0'", "'1'", "Squared");
  EXPECT_ERROR(match(with_own_step<nn::DropoutImpl>(linear, linear), "0"), "'0'", "'1'", "Squared");
  EXPECT_ERROR(match(with_own_step<nn::AvgPool2dImpl>(conv, conv, 2), "0"), "'0'", "'1'", "Squared");
  EXPECT_ERROR(match(with_own_step<nn::MaxPool2dImpl>(conv, conv, 2), "0"), "'0'", "'1'", "Squared");
  EXPECT_ERROR(match(with_own_step<nn::AdaptiveAvgPool2dImpl>(conv, conv, 1), "0"), "'0'", "'1'", "Squared");
  EXPECT_ERROR(match(with_own_step<nn::FlattenImpl>(conv, linear), "0"), "'0'", "'1'", "Squared");
}

// Such as the layers of a DenseNet, which put their input beside their output.
TEST(MatchBlocksTest, DoesNotLookIntoAClassThatDerivesFromSequential) {
  struct DenseImpl : nn::SequentialImpl {
    using nn::SequentialImpl::SequentialImpl;
    at::Tensor forward(const at::Tensor& input) { return at::cat({input, nn::SequentialImpl::forward(input)}, 1); }
  };
  const auto dense = std::make_shared<DenseImpl>(nn::Linear(2, 3));
  nn::Sequential model;
  model->push_back(dense);
  model->push_back(nn::Linear(5, 2));
  EXPECT_ERROR(match(model, "0.0"), "'0.0'", "not known");
}

TEST(MatchBlocksTest, RefusesToNarrowWhatTwoModulesShare) {
  nn::Linear shared(3, 3);
  nn::Sequential model(shared, nn::ReLU(), shared, nn::Linear(3, 2));
  SaliencyPruner pruner;
  pruner.prepare(model.ptr(), {{.tensor_fqn = "0.weight"}});
  pruner.step();
  EXPECT_ERROR(pruner.prune(), "'0'", "shared", "'0.weight' and '2.weight'");
  EXPECT_EQ(shared->weight.size(0), 3);

  nn::PReLU prelu(nn::PReLUOptions().num_parameters(3));
  nn::Sequential twice(nn::Linear(3, 3), prelu, nn::Linear(3, 3), prelu);
  SaliencyPruner second;
  second.prepare(twice.ptr(), {{.tensor_fqn = "0.weight"}});
  EXPECT_ERROR(second.prune(), "'0'", "'1.weight' and '3.weight'");
}

// One bad block among good ones: the good ones stay as they were.
TEST(MatchBlocksTest, ChangesNothingWhenOneLayerIsRefused) {
  nn::Sequential model(nn::Linear(3, 4), nn::Linear(4, 4), nn::Softmax(1), nn::Linear(4, 2));
  SaliencyPruner pruner;
  pruner.prepare(model.ptr());
  pruner.step();
  EXPECT_ERROR(pruner.prune(), "'1'", "Softmax");
  EXPECT_EQ(model->ptr<nn::LinearImpl>(0)->weight.size(0), 4);
  EXPECT_TRUE(ParameterMask::on(model->ptr<nn::LinearImpl>(0)->weight));
}

}  // namespace
}  // namespace transformers
