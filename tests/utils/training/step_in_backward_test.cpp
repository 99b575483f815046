#include <ATen/ATen.h>
#include <transformers/utils/optim/step_in_backward.h>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/training/training_run.h"

namespace transformers::testing {
namespace {

using torch::optim::AdamWOptions;

/// Notes how many elements of gradients are alive at the most when it steps.
class CountingSGD : public Optimizer {
 public:
  explicit CountingSGD(std::vector<at::Tensor> parameters)
      : Optimizer({torch::optim::OptimizerParamGroup(std::move(parameters))},
                  std::make_unique<torch::optim::SGDOptions>(1e-2), LowPrecision::kPlain) {}

  int64_t most_alive = 0;

 private:
  void update(Batch& batch) override {
    int64_t alive = 0;
    for (const auto& parameter : all_parameters(*this)) {
      alive += parameter.grad().defined() ? parameter.numel() : 0;
    }
    most_alive = std::max(most_alive, alive);
    for (size_t i = 0; i < batch.values.size(); ++i) {
      batch.values[i].add_(batch.grads[i], -1e-2);
    }
  }
};

TEST(StepInBackwardTest, GradientsOfOneParameterLiveAtATime) {
  const auto model = tiny_model(tiny_llama());
  const auto parameters = trainable_parameters(*model);
  const auto ids = tiny_ids(2, 5);
  const auto backward = [&] {
    model->forward({.input_ids = ids, .use_cache = false}, {.labels = ids}).loss.backward();
  };
  int64_t all = 0, largest = 0;
  for (const auto& parameter : parameters) {
    all += parameter.numel();
    largest = std::max(largest, parameter.numel());
  }
  CountingSGD plain(parameters), stepping(parameters);
  backward();
  plain.step();
  EXPECT_EQ(plain.most_alive, all);
  plain.zero_grad();
  const StepInBackward in_backward(stepping);
  backward();
  EXPECT_EQ(stepping.most_alive, largest);
  for (const auto& parameter : parameters) {
    EXPECT_FALSE(parameter.grad().defined());
  }
}

TEST(StepInBackwardTest, TheNormIsThatOfAllGradientsAndTheHooksGoWithTheObject) {
  const auto first = at::ones({2}).requires_grad_(), second = at::ones({1}).requires_grad_();
  SGD optimizer({torch::optim::OptimizerParamGroup({first, second})}, torch::optim::SGDOptions(1));
  const auto loss = [&] { return (first * at::tensor({2.0F, 3.0F})).sum() + 6 * second.sum(); };
  {
    StepInBackward in_backward(optimizer);
    EXPECT_ERROR(std::make_unique<StepInBackward>(optimizer), "hook");
    loss().backward();
    EXPECT_EQ(in_backward.take_grad_norm().item<float>(), 7);  // of 2, 3 and 6
    EXPECT_EQ(in_backward.take_grad_norm().item<float>(), 0);
    EXPECT_TENSORS_EQUAL(first.detach(), at::tensor({-1.0F, -2.0F}));
    EXPECT_TENSORS_EQUAL(second.detach(), at::tensor({-5.0F}));
  }
  loss().backward();
  EXPECT_TENSORS_EQUAL(second.detach(), at::tensor({-5.0F}));
  EXPECT_TRUE(second.grad().defined());
}

/// Losses and norms of a run of nine steps with one micro-batch each and no clipping.
std::vector<double> curve(const std::shared_ptr<CausalLM>& model, bool step_in_backward, int64_t every_n) {
  const TemporaryFolder folder;
  std::vector<double> curve;
  AdamW optimizer(decay_groups(*model, AdamWOptions(1e-2)));
  const auto scheduler = get_scheduler(SchedulerType::kLinear, optimizer, {.num_training_steps = 9});
  BatchLoader data(random_samples(), padding_collator(0), {.batch_size = 3});
  if (every_n > 0) {
    model->gradient_checkpointing_enable(every_n);
  }
  Trainer trainer(*model, causal_lm_task(*model), optimizer, *scheduler,
                  {.max_steps = 9, .max_grad_norm = 0, .step_in_backward = step_in_backward},
                  {.on_step = [&curve](const TrainingLog& log) {
                    curve.insert(curve.end(), {log.loss, log.grad_norm});
                    return true;
                  }});
  at::manual_seed(31);
  trainer.train(data);
  return curve;
}

TEST(StepInBackwardTest, TheStepsAreThoseOfAnOptimizerAfterBackward) {
  for (const int64_t every_n : {0, 1}) {
    const auto plain = model_with_dropout(), stepping = model_with_dropout();
    const auto expected = curve(plain, false, every_n), found = curve(stepping, true, every_n);
    EXPECT_TENSORS_CLOSE(at::tensor(found, at::kDouble), at::tensor(expected, at::kDouble),
                         {.relative = 1e-6, .absolute = 0});  // norms are summed in another order
    expect_same_weights(*stepping, *plain);
  }
}

TEST(StepInBackwardTest, ATiedWeightIsSteppedOnce) {
  auto config = tiny_llama();
  config.tie_word_embeddings = true;
  const auto plain = tiny_model(config), stepping = tiny_model(config);
  curve(plain, false, 0);
  curve(stepping, true, 0);
  expect_same_weights(*stepping, *plain);
}

TEST(StepInBackwardTest, WhatNeedsAllGradientsAtOnceIsRefused) {
  const auto model = tiny_model(tiny_llama());
  AdamW optimizer(trainable_parameters(*model));
  const auto scheduler = get_scheduler(SchedulerType::kConstant, optimizer);
  const auto make = [&](TrainingArguments arguments) {
    arguments.max_steps = 1;
    arguments.step_in_backward = true;
    Trainer(*model, causal_lm_task(*model), optimizer, *scheduler, std::move(arguments));
  };
  EXPECT_ERROR(make({}), "step_in_backward", "max_grad_norm", "1");
  EXPECT_ERROR(make({.gradient_accumulation_steps = 2, .max_grad_norm = 0}), "step_in_backward",
               "gradient_accumulation_steps", "2");
  EXPECT_ERROR(make({.max_grad_norm = 0, .autocast = Autocast::kFloat16}), "step_in_backward", "float16");
}

}  // namespace
}  // namespace transformers::testing
