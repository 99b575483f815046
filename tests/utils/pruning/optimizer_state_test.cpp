#include <torch/torch.h>
#include <transformers/utils/pruning/optimizer_state.h>

#include "support/tensor_assertions.h"
#include "utils/pruning/tensors.h"

namespace transformers {
namespace {

using testing::bools;

namespace optim = torch::optim;

struct NamedOptimizer {
  std::string name;
  std::function<std::unique_ptr<optim::Optimizer>(std::vector<at::Tensor>)> make;
};

template <typename Optimizer, typename Options>
NamedOptimizer named(std::string name, Options options) {
  return {std::move(name), [options](std::vector<at::Tensor> parameters) -> std::unique_ptr<optim::Optimizer> {
            return std::make_unique<Optimizer>(std::move(parameters), options);
          }};
}

std::vector<NamedOptimizer> optimizers() {
  return {named<optim::SGD>("SGD", optim::SGDOptions(0.1).momentum(0.9).weight_decay(0.1)),
          named<optim::Adam>("Adam", optim::AdamOptions(0.1).amsgrad(true)),
          named<optim::AdamW>("AdamW", optim::AdamWOptions(0.1).weight_decay(0.1)),
          named<optim::RMSprop>("RMSprop", optim::RMSpropOptions(0.1).momentum(0.9).centered(true)),
          named<optim::Adagrad>("Adagrad", optim::AdagradOptions(0.1))};
}

/// A step towards a target of which each entry is trained on its own.
void train(optim::Optimizer& optimizer, const at::Tensor& parameter, const at::Tensor& target) {
  optimizer.zero_grad();
  (parameter - target).square().sum().backward();
  optimizer.step();
}

at::Tensor target() { return at::tensor({3.F, -1.F, 2.F, 5.F}); }
at::Tensor mask() { return bools({1, 0, 0, 1}); }
at::Tensor kept() { return at::tensor({0, 3}, at::kLong); }

TensorSelection select_kept() {
  return [](const at::Tensor& tensor) { return tensor.index_select(0, kept()); };
}

TEST(OptimizerStateTest, HiddenEntriesStayZeroWithClearedStateInEveryOptimizer) {
  for (const auto& [name, make] : optimizers()) {
    SCOPED_TRACE(name);
    const auto parameter = at::ones({4}).requires_grad_();
    const auto optimizer = make({parameter});
    for (int step = 0; step < 3; ++step) {
      train(*optimizer, parameter, target());
    }
    const ParameterMask masked(parameter, mask());
    clear_hidden_state(*optimizer);
    for (int step = 0; step < 5; ++step) {
      train(*optimizer, parameter, target());
      EXPECT_TENSORS_EQUAL(parameter.detach().ne(0), mask());
    }
  }
}

TEST(OptimizerStateTest, ApplyAfterEachStepUndoesWhatMomentumMoved) {
  const auto parameter = at::ones({4}).requires_grad_();
  optim::SGD optimizer({parameter}, optim::SGDOptions(0.1).momentum(0.9));
  train(optimizer, parameter, target());
  ParameterMask masked(parameter, mask());
  train(optimizer, parameter, target());
  EXPECT_FALSE(at::equal(parameter.detach().ne(0), mask()));
  masked.apply();
  EXPECT_TENSORS_EQUAL(parameter.detach().ne(0), mask());
}

// Entries do not meet in these optimizers, so a narrowed run must equal the kept entries of a full one bit by bit.
TEST(OptimizerStateTest, ANarrowedStateContinuesAsTheFullOneWould) {
  for (const auto& [name, make] : optimizers()) {
    SCOPED_TRACE(name);
    const auto full = at::ones({4}).requires_grad_();
    const auto smaller = at::ones({4}).requires_grad_();
    const auto full_optimizer = make({full});
    const auto optimizer = make({smaller});
    for (int step = 0; step < 3; ++step) {
      train(*full_optimizer, full, target());
      train(*optimizer, smaller, target());
    }
    narrow_parameter(smaller, select_kept());
    update_optimizer(*optimizer, {.narrowed = {{smaller, {4}, select_kept()}}}, OptimizerState::kNarrow);
    for (int step = 0; step < 3; ++step) {
      train(*full_optimizer, full, target());
      train(*optimizer, smaller, target().index_select(0, kept()));
    }
    EXPECT_TENSORS_EQUAL(smaller.detach(), full.detach().index_select(0, kept()));
  }
}

TEST(OptimizerStateTest, ADroppedStateStartsAnew) {
  for (const auto& [name, make] : optimizers()) {
    SCOPED_TRACE(name);
    const auto parameter = at::ones({4}).requires_grad_();
    const auto optimizer = make({parameter});
    train(*optimizer, parameter, target());
    narrow_parameter(parameter, select_kept());
    update_optimizer(*optimizer, {.narrowed = {{parameter, {4}, select_kept()}}}, OptimizerState::kDrop);

    const auto fresh = parameter.detach().clone().requires_grad_();
    const auto fresh_optimizer = make({fresh});
    train(*optimizer, parameter, target().index_select(0, kept()));
    train(*fresh_optimizer, fresh, target().index_select(0, kept()));
    EXPECT_TENSORS_EQUAL(parameter.detach(), fresh.detach());
  }
}

TEST(OptimizerStateTest, AnAddedParameterIsTrainedWithTheWeightItLiesBeside) {
  for (const auto& [name, make] : optimizers()) {
    SCOPED_TRACE(name);
    const auto weight = at::ones({4}).requires_grad_();
    const auto bias = at::ones({4}).requires_grad_();
    const auto optimizer = make({weight});
    update_optimizer(*optimizer, {.added = {{bias, weight}}}, OptimizerState::kDrop);
    train(*optimizer, bias, target());
    EXPECT_FALSE(at::equal(bias.detach(), at::ones({4})));
  }
}

/// An optimizer of somebody else, with and without a state that can be narrowed.
struct ClosedState : optim::OptimizerCloneableParamState<ClosedState> {};
struct OpenState : optim::OptimizerCloneableParamState<OpenState>, NarrowableState {
  at::Tensor average = at::ones({4});
  std::vector<at::Tensor*> parameter_shaped() override { return {&average}; }
};

TEST(OptimizerStateTest, NarrowsAndMasksAStateOfOnesOwnAndRefusesAClosedOne) {
  const auto parameter = at::ones({4}).requires_grad_();
  optim::SGD optimizer({parameter}, optim::SGDOptions(0.1));
  auto& state = optimizer.state()[parameter.unsafeGetTensorImpl()];
  const PrunedParameters pruned{.narrowed = {{parameter, {4}, select_kept()}}};
  ParameterMask masked(parameter, mask());

  state = std::make_unique<ClosedState>();
  EXPECT_ERROR(update_optimizer(optimizer, pruned, OptimizerState::kNarrow), "drop it");
  EXPECT_ERROR(clear_hidden_state(optimizer), "drop it");
  state = std::make_unique<OpenState>();
  auto& average = static_cast<OpenState&>(*state).average;
  clear_hidden_state(optimizer);
  EXPECT_TENSORS_EQUAL(average, mask().to(at::kFloat));
  update_optimizer(optimizer, pruned, OptimizerState::kNarrow);
  EXPECT_TENSORS_EQUAL(average, at::ones({2}));
}

TEST(OptimizerStateTest, LBFGSIsToBeBuiltAnew) {
  const auto parameter = at::ones({2}).requires_grad_();
  optim::LBFGS optimizer({parameter});
  EXPECT_ERROR(update_optimizer(optimizer, {}, OptimizerState::kNarrow), "LBFGS", "anew");
  EXPECT_ERROR(update_optimizer(optimizer, {}, OptimizerState::kDrop), "LBFGS", "anew");
}

TEST(OptimizerStateTest, RefusesToNarrowAStateOfAnotherShape) {
  const auto parameter = at::ones({4}).requires_grad_();
  optim::Adam optimizer(std::vector<at::Tensor>{parameter});
  train(optimizer, parameter, target());
  const PrunedParameters pruned{.narrowed = {{parameter, {6}, select_kept()}}};
  EXPECT_ERROR(update_optimizer(optimizer, pruned, OptimizerState::kNarrow), "[6]", "[4]");
}

}  // namespace
}  // namespace transformers
