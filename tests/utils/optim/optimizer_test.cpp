#include <ATen/ATen.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adamw.h>
#include <torch/optim/sgd.h>
#include <torch/serialize.h>
#include <transformers/utils/optim/adamw_8bit.h>
#include <transformers/utils/optim/optimizer.h>
#include <transformers/utils/optim/parameter_groups.h>

#include <cmath>
#include <sstream>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

using torch::optim::AdamWOptions;
using torch::optim::OptimizerParamGroup;
using torch::optim::SGDOptions;

template <typename Options>
void read_betas(const nlohmann::json& given, Options& options) {
  if (given.contains("betas")) {
    options.betas({given["betas"][0], given["betas"][1]});
  }
}

AdamWOptions adamw_options(const nlohmann::json& given) {
  AdamWOptions options(5e-5);
  options.weight_decay(given.value("weight_decay", 0.01)).eps(given.value("eps", 1e-8));
  options.amsgrad(given.value("amsgrad", false));
  read_betas(given, options);
  return options;
}

SGDOptions sgd_options(const nlohmann::json& given) {
  SGDOptions options(5e-5);
  options.momentum(given.value("momentum", 0.0)).dampening(given.value("dampening", 0.0));
  options.weight_decay(given.value("weight_decay", 0.0)).nesterov(given.value("nesterov", false));
  return options;
}

AdafactorOptions adafactor_options(const nlohmann::json& given) {
  AdafactorOptions options(5e-5);
  options.scale_parameter(given.value("scale_parameter", true)).relative_step(given.value("relative_step", true));
  options.warmup_init(given.value("warmup_init", false)).weight_decay(given.value("weight_decay", 0.0));
  if (given.contains("beta1")) {
    options.beta1(given["beta1"].get<double>());
  }
  return options;
}

/// The groups of scripts/goldens/training.py: parameters 0 and 1 at 5e-5, parameter 2 at 1e-3.
template <typename Options>
std::vector<OptimizerParamGroup> groups_of(const std::vector<at::Tensor>& parameters, Options options) {
  std::vector<OptimizerParamGroup> groups;
  groups.emplace_back(std::vector<at::Tensor>{parameters[0], parameters[1]}, std::make_unique<Options>(options));
  options.set_lr(1e-3);
  groups.emplace_back(std::vector<at::Tensor>{parameters[2]}, std::make_unique<Options>(options));
  return groups;
}

std::unique_ptr<Optimizer> make_optimizer(const GoldenCase& c, const std::vector<at::Tensor>& parameters) {
  const auto& given = c.arguments.at("options");
  if (c.name.starts_with("adamw")) {
    return std::make_unique<AdamW>(groups_of(parameters, adamw_options(given)));
  }
  if (c.name.starts_with("sgd")) {
    return std::make_unique<SGD>(groups_of(parameters, sgd_options(given)), sgd_options(given));
  }
  return std::make_unique<Adafactor>(groups_of(parameters, adafactor_options(given)));
}

std::vector<at::Tensor> initial_parameters(const GoldenCase& c) {
  std::vector<at::Tensor> parameters;
  for (int i = 0; i < 3; ++i) {
    parameters.push_back(c.tensor("initial." + std::to_string(i)).clone().requires_grad_());
  }
  return parameters;
}

/// Sets the gradients of a step as Python had them: parameter 1 has none in step 2.
void set_grads(const GoldenCase& c, int step, std::vector<at::Tensor>& parameters) {
  for (int i = 0; i < 3; ++i) {
    const bool none = step == 2 && i == 1;
    parameters[i].mutable_grad() =
        none ? at::Tensor() : c.tensor("grad." + std::to_string(step) + "." + std::to_string(i)).clone();
  }
}

TEST(OptimizerTest, EveryStepGivesPythonsValues) {
  const auto cases = golden_cases("training", "optimizers");
  ASSERT_EQ(cases.size(), 8U);
  for (const auto& c : cases) {
    auto parameters = initial_parameters(c);
    const auto optimizer = make_optimizer(c, parameters);
    for (int step = 0; step < 6; ++step) {
      set_grads(c, step, parameters);
      optimizer->step();
      for (int i = 0; i < 3; ++i) {
        SCOPED_TRACE(c.name + " step " + std::to_string(step) + " parameter " + std::to_string(i));
        EXPECT_TENSORS_CLOSE(parameters[i], c.tensor("value." + std::to_string(step) + "." + std::to_string(i)),
                             {.relative = 1e-6, .absolute = 1e-7});
      }
    }
  }
}

TEST(OptimizerTest, ASavedStateContinuesBitForBit) {
  for (const auto& c : golden_cases("training", "optimizers")) {
    SCOPED_TRACE(c.name);
    auto straight = initial_parameters(c), resumed = initial_parameters(c);
    const auto first = make_optimizer(c, straight);
    auto second = make_optimizer(c, resumed);
    for (int step = 0; step < 6; ++step) {
      if (step == 3) {
        const auto state = second->state_dict();
        second = make_optimizer(c, resumed);
        second->load_state_dict(state);
      }
      set_grads(c, step, straight);
      set_grads(c, step, resumed);
      first->step();
      second->step();
    }
    for (int i = 0; i < 3; ++i) {
      EXPECT_TENSORS_EQUAL(straight[i], resumed[i]);
    }
  }
}

TEST(OptimizerTest, AStateThatDoesNotFitIsRefusedAndChangesNothing) {
  auto parameter = at::ones({2, 3}).requires_grad_();
  AdamW optimizer({parameter});
  parameter.mutable_grad() = at::ones({2, 3});
  optimizer.step();
  const auto load = [&](const std::string& key, at::Tensor value) {
    StateDict state;
    state.insert(key, std::move(value));
    optimizer.load_state_dict(state);
  };
  EXPECT_ERROR(load("1.exp_avg", at::zeros({2, 3})), "1.exp_avg", "1 parameters");
  EXPECT_ERROR(load("exp_avg", at::zeros({2, 3})), "exp_avg", "index");
  EXPECT_ERROR(load("0.exp_avg", at::zeros({3, 2})), "0.exp_avg", "[2, 3]", "[3, 2]");
  EXPECT_EQ(optimizer.state_dict().size(), 3U);
}

TEST(OptimizerTest, OptionsThatCannotBeAreRefused) {
  const std::vector<OptimizerParamGroup> groups{OptimizerParamGroup({at::ones({2})})};
  EXPECT_ERROR(AdamW(groups, AdamWOptions(-1)), "AdamW", "lr", "-1");
  EXPECT_ERROR(AdamW(groups, AdamWOptions(1).betas({0.9, 1.0})), "betas", "1");
  EXPECT_ERROR(SGD(groups, SGDOptions(1).nesterov(true)), "Nesterov");
  EXPECT_ERROR(Lion(groups, LionOptions(1).weight_decay(-1)), "weight_decay", "-1");
  EXPECT_ERROR(Adafactor(groups, AdafactorOptions().relative_step(false).warmup_init(true)), "warmup_init");
}

TEST(OptimizerTest, LionFollowsTheSignOfTheInterpolatedMomentum) {
  auto parameter = at::tensor({1.0, 1.0, 1.0}).requires_grad_();
  Lion optimizer({OptimizerParamGroup({parameter})}, LionOptions(0.1).betas({0.5, 0.75}).weight_decay(0.5));
  const auto step = [&](at::Tensor grad) {
    parameter.mutable_grad() = std::move(grad);
    optimizer.step();
  };
  step(at::tensor({2.0, -2.0, 0.0}));  // momentum 0, so the sign of the gradient; then momentum = grad / 4
  EXPECT_TENSORS_CLOSE(parameter, at::tensor({0.95 - 0.1, 0.95 + 0.1, 0.95}));
  step(at::tensor({-0.4, 0.6, 0.0}));  // (0.5 - 0.4) / 2 > 0, (-0.5 + 0.6) / 2 > 0
  EXPECT_TENSORS_CLOSE(parameter, at::tensor({0.85 * 0.95 - 0.1, 1.05 * 0.95 - 0.1, 0.95 * 0.95}));
}

/// bf16 has 8 bits: 1 + 2^-10 is 1 to it.
constexpr double kTiny = 1.0 / 1024;

at::Tensor after_tiny_steps(LowPrecision low_precision, int steps) {
  auto parameter = at::ones({4096}, at::kBFloat16).requires_grad_();
  SGD optimizer({OptimizerParamGroup({parameter})}, SGDOptions(kTiny), low_precision);
  for (int step = 0; step < steps; ++step) {
    parameter.mutable_grad() = -at::ones({4096}, at::kBFloat16);
    optimizer.step();
  }
  return parameter.detach().to(at::kFloat);
}

TEST(OptimizerTest, MasterWeightsKeepUpdatesBelowTheLastBit) {
  EXPECT_TENSORS_EQUAL(after_tiny_steps(LowPrecision::kPlain, 64), at::ones({4096}));
  EXPECT_TENSORS_EQUAL(after_tiny_steps(LowPrecision::kMasterWeights, 64), at::full({4096}, 1 + 64 * kTiny));
}

TEST(OptimizerTest, StochasticRoundingIsRightOnAverageAndTakesOnlyNeighbours) {
  at::manual_seed(0);
  const auto once = after_tiny_steps(LowPrecision::kStochasticRounding, 1);
  EXPECT_TRUE(((once == 1) | (once == 1 + 1.0 / 128)).all().item<bool>());
  // 1 + 2^-10 lies an eighth of the way up; the mean of 4096 draws strays by 0.005 of a unit.
  EXPECT_NEAR((once - 1).mean().item<double>() * 128, 0.125, 0.02);
  EXPECT_NEAR(after_tiny_steps(LowPrecision::kStochasticRounding, 64).mean().item<double>(), 1 + 64 * kTiny, 1e-3);
}

TEST(OptimizerTest, StochasticRoundingIsRefusedForHalf) {
  const std::vector<OptimizerParamGroup> groups{OptimizerParamGroup({at::ones({2}, at::kHalf)})};
  EXPECT_ERROR(AdamW(groups, {}, LowPrecision::kStochasticRounding), "float16", "[2]");
}

TEST(OptimizerTest, AClosureRunsWithGradientsAndItsLossIsReturned) {
  auto parameter = at::ones({3}).requires_grad_();
  SGD optimizer({OptimizerParamGroup({parameter})}, SGDOptions(0.5));
  const at::NoGradGuard no_grad;
  const auto loss = optimizer.step([&] {
    const auto sum = parameter.square().sum();
    sum.backward();
    return sum;
  });
  EXPECT_EQ(loss.item<float>(), 3);
  EXPECT_TENSORS_EQUAL(parameter, at::zeros({3}));
}

TEST(OptimizerTest, OneParameterCanBeSteppedByItself) {
  std::vector<at::Tensor> parameters{at::ones({2}).requires_grad_(), at::ones({2}).requires_grad_()};
  SGD optimizer({OptimizerParamGroup(parameters)}, SGDOptions(1));
  for (auto& parameter : parameters) {
    parameter.mutable_grad() = at::ones({2});
  }
  optimizer.step_parameter(parameters[1]);
  EXPECT_TENSORS_EQUAL(parameters[0], at::ones({2}));
  EXPECT_TENSORS_EQUAL(parameters[1], at::zeros({2}));
  EXPECT_ERROR(optimizer.step_parameter(at::ones({7})), "no such parameter", "[7]");
}

TEST(OptimizerTest, MaskedEntriesStayZeroAndStatesAreNarrowed) {
  auto parameter = at::ones({3, 2}).requires_grad_();
  AdamW optimizer({parameter}, AdamWOptions(0.1));
  const auto step = [&] {
    parameter.mutable_grad() = at::ones_like(parameter);
    optimizer.step();
  };
  step();
  ParameterMask mask(parameter, at::tensor({1, 0, 1}, at::kLong).unsqueeze(1));
  clear_hidden_state(optimizer);
  parameter.mutable_grad() = at::tensor({1.0F, 1.0F, 0.0F, 0.0F, 1.0F, 1.0F}).view({3, 2});
  optimizer.step();
  EXPECT_TENSORS_EQUAL(parameter[1], at::zeros({2}));
  EXPECT_TENSORS_EQUAL(optimizer.state_dict()["0.exp_avg"][1], at::zeros({2}));
}

TEST(ClippingTest, NormAndScaledGradientsEqualPython) {
  for (const auto& c : golden_cases("training", "clipping")) {
    SCOPED_TRACE(c.name);
    std::vector<at::Tensor> parameters;
    for (int i = 0; i < 3; ++i) {
      const auto grad = c.tensor("grad." + std::to_string(i)).clone();
      parameters.push_back(at::zeros_like(grad).requires_grad_());
      parameters.back().mutable_grad() = grad;
    }
    EXPECT_TENSORS_CLOSE(clip_grad_norm_(parameters, c.get<double>("max_norm")), c.tensor("norm"));
    for (int i = 0; i < 3; ++i) {
      EXPECT_TENSORS_CLOSE(parameters[i].grad(), c.tensor("clipped." + std::to_string(i)));
    }
  }
}

TEST(ClippingTest, AMaximumOfZeroOnlyMeasures) {
  auto parameter = at::zeros({2}).requires_grad_();
  parameter.mutable_grad() = at::tensor({3.0F, 4.0F});
  EXPECT_EQ(clip_grad_norm_({parameter}, 0).item<float>(), 5);
  EXPECT_TENSORS_EQUAL(parameter.grad(), at::tensor({3.0F, 4.0F}));
  EXPECT_EQ(clip_grad_norm_({at::zeros({2})}, 1).item<float>(), 0);
}

TEST(ClippingTest, ATiedParameterCountsOnce) {
  auto parameter = at::zeros({2}).requires_grad_();
  parameter.mutable_grad() = at::tensor({3.0F, 4.0F});
  EXPECT_EQ(clip_grad_norm_({parameter, parameter}, 2.5).item<float>(), 5);
  EXPECT_TENSORS_CLOSE(parameter.grad(), at::tensor({1.5F, 2.0F}));
}

TEST(OptimizerTest, TiedParametersAreSteppedOnce) {
  auto config = tiny_llama();
  config.tie_word_embeddings = true;
  const auto model = tiny_model(config);
  const auto weight = model->get_output_embeddings()->weight;
  const auto step_of = [&](torch::optim::Optimizer& optimizer) {
    const auto before = weight.detach().clone();
    weight.mutable_grad() = at::ones_like(weight);
    optimizer.step();
    return (before - weight.detach()).mean().item<double>();
  };
  // Adam's first step is its learning rate, SGD's the rate times the gradient; torch::optim gets what Python gets.
  torch::optim::SGD sgd(model->parameters(), SGDOptions(0.1));
  EXPECT_NEAR(step_of(sgd), 0.1, 1e-5);
  torch::optim::AdamW adamw(model->parameters(), AdamWOptions(0.1).weight_decay(0));
  EXPECT_NEAR(step_of(adamw), 0.1, 1e-5);
  std::vector<at::Tensor> listed_twice;
  for (const auto& entry : model->named_parameters()) {
    listed_twice.push_back(entry.value());
  }
  AdamW own(listed_twice, AdamWOptions(0.1).weight_decay(0));
  EXPECT_NEAR(step_of(own), 0.1, 1e-5);
  EXPECT_EQ(own.param_groups()[0].params().size(), model->parameters().size());
}

TEST(OptimizerTest, AParameterInTwoGroupsIsRefused) {
  const auto parameter = at::zeros({2, 3}).requires_grad_();
  const std::vector<OptimizerParamGroup> groups{std::vector{parameter}, std::vector{parameter}};
  EXPECT_ERROR(AdamW(groups, AdamWOptions(0.1)), "more than one parameter group", "[2, 3]");
}

/// Three steps, torch::save and torch::load into a fresh optimizer, two more steps: bit for bit those of one that went
/// on, as with torch::optim's own.
template <typename Make>
void expect_that_torch_save_keeps_everything(const Make& make) {
  const auto values = at::rand({4, 6});
  auto straight = values.clone().requires_grad_(), resumed = values.clone().requires_grad_();
  std::unique_ptr<torch::optim::Optimizer> first = make(straight), second = make(resumed);
  const auto step = [](torch::optim::Optimizer& optimizer, const at::Tensor& parameter, int number) {
    parameter.mutable_grad() = at::sin(at::arange(24, at::kFloat) * (number + 1)).view({4, 6});
    optimizer.step();
  };
  for (int i = 0; i < 3; ++i) {
    step(*first, straight, i);
    step(*second, resumed, i);
  }
  first->param_groups()[0].options().set_lr(0.02);
  second->param_groups()[0].options().set_lr(0.02);
  std::stringstream stream;
  torch::save(*second, stream);
  second = make(resumed);
  torch::load(*second, stream);
  EXPECT_EQ(second->param_groups()[0].options().get_lr(), 0.02);
  for (int i = 3; i < 5; ++i) {
    step(*first, straight, i);
    step(*second, resumed, i);
  }
  EXPECT_TENSORS_EQUAL(resumed.detach(), straight.detach());
}

TEST(OptimizerTest, TorchSaveAndLoadKeepTheStateOfEveryOptimizer) {
  const auto groups = [](const at::Tensor& parameter) {
    return std::vector<OptimizerParamGroup>{OptimizerParamGroup({parameter})};
  };
  expect_that_torch_save_keeps_everything(
      [&](const at::Tensor& p) { return std::make_unique<AdamW>(groups(p), AdamWOptions(0.01).amsgrad(true)); });
  expect_that_torch_save_keeps_everything(
      [&](const at::Tensor& p) { return std::make_unique<SGD>(groups(p), SGDOptions(0.01).momentum(0.9)); });
  expect_that_torch_save_keeps_everything(
      [&](const at::Tensor& p) { return std::make_unique<Lion>(groups(p), LionOptions(0.01)); });
  expect_that_torch_save_keeps_everything([&](const at::Tensor& p) {
    return std::make_unique<Adafactor>(groups(p), AdafactorOptions(0.01).relative_step(false).beta1(0.9));
  });
  expect_that_torch_save_keeps_everything(
      [&](const at::Tensor& p) { return std::make_unique<AdamW8bit>(groups(p), AdamWOptions(0.01)); });
}

TEST(OptimizerTest, AnArchiveOfOtherParametersIsRefusedWhole) {
  const auto parameter = at::zeros({2, 3}).requires_grad_(), other = at::zeros({3, 3}).requires_grad_();
  AdamW optimizer({parameter}, AdamWOptions(0.1));
  parameter.mutable_grad() = at::ones({2, 3});
  optimizer.step();
  const auto saved = [&] {
    std::stringstream stream;
    torch::save(optimizer, stream);
    return stream;
  };
  AdamW two({parameter, other}, AdamWOptions(0.1)), misshaped({other}, AdamWOptions(0.2));
  auto stream = saved();
  EXPECT_ERROR(torch::load(two, stream), "1 parameters in the archive", "2 here");
  stream = saved();
  EXPECT_ERROR(torch::load(misshaped, stream), "0.exp_avg", "[3, 3]", "[2, 3]");
  EXPECT_EQ(misshaped.param_groups()[0].options().get_lr(), 0.2);
  std::stringstream foreign;
  torch::save(torch::optim::SGD({parameter}, SGDOptions(0.1)), foreign);
  EXPECT_ERROR(torch::load(optimizer, foreign), "archive");
}

TEST(OptimizerTest, NumbersOfAStateAreChecked) {
  const auto parameter = at::zeros({2, 3}).requires_grad_();
  AdamW optimizer({parameter}, AdamWOptions(0.1));
  const auto load = [&](const std::string& name, const at::Tensor& entry) {
    StateDict state;
    state.insert(name, entry);
    optimizer.load_state_dict(state);
  };
  EXPECT_ERROR(load("0.step", at::scalar_tensor(NAN)), "0.step", "nan");
  EXPECT_ERROR(load("0.step", at::scalar_tensor(-1.0F)), "0.step", "-1");
  EXPECT_ERROR(load("0.step", at::zeros({2})), "0.step", "[2]");
  EXPECT_ERROR(load("0.exp_avg", at::zeros({2, 3}, at::kLong)), "0.exp_avg", "floating");
  EXPECT_ERROR(load("0.exp_avg_sq_row", at::zeros({3})), "exp_avg_sq_row", "[2]");
  EXPECT_ERROR(load("0.colour", at::zeros({2, 3})), "0.colour");
}

}  // namespace
}  // namespace transformers::testing
