#include <ATen/ATen.h>
#include <transformers/utils/modeling/losses.h>
#include <transformers/utils/optim/parameter_groups.h>
#include <transformers/utils/training/dpo.h>

#include <cmath>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

TEST(DpoTest, LossRewardsAndGradientsEqualTheWrittenOutFormula) {
  for (const auto& golden : golden_cases("lora", "dpo")) {
    if (!golden.has("beta")) {
      continue;
    }
    SCOPED_TRACE(golden.name);
    const auto input = [&](const char* name) { return golden.tensor(name).clone().requires_grad_(); };
    const PreferenceLogProbs log_probs{input("policy_chosen"), input("policy_rejected"), input("reference_chosen"),
                                       input("reference_rejected")};
    const auto output = dpo_loss(
        log_probs, {.beta = golden.get<double>("beta"), .label_smoothing = golden.get<double>("label_smoothing")});
    output.losses.sum().backward();
    EXPECT_TENSORS_CLOSE(output.losses.detach(), golden.tensor("losses"));
    EXPECT_TENSORS_CLOSE(output.chosen_rewards, golden.tensor("chosen_rewards"));
    EXPECT_TENSORS_CLOSE(output.rejected_rewards, golden.tensor("rejected_rewards"));
    EXPECT_TENSORS_CLOSE(log_probs.policy_chosen.grad(), golden.tensor("grad.policy_chosen"));
    EXPECT_TENSORS_CLOSE(log_probs.policy_rejected.grad(), golden.tensor("grad.policy_rejected"));
  }
}

TEST(DpoTest, LogProbsSumOverTheLearnedTokens) {
  for (const auto& golden : golden_cases("lora", "dpo")) {
    if (golden.name == "log_probs") {
      EXPECT_TENSORS_CLOSE(sequence_log_probs(golden.tensor("logits"), golden.tensor("labels")),
                           golden.tensor("log_probs"));
    }
  }
}

Batch preference(std::vector<int64_t> prompt, std::vector<int64_t> chosen, std::vector<int64_t> rejected) {
  Batch sample;
  for (const auto& [name, answer] : {std::pair{"chosen_", chosen}, std::pair{"rejected_", rejected}}) {
    auto ids = prompt, labels = std::vector<int64_t>(prompt.size(), kIgnoreIndex);
    ids.insert(ids.end(), answer.begin(), answer.end());
    labels.insert(labels.end(), answer.begin(), answer.end());
    sample[std::string(name) + "input_ids"] = at::tensor(ids, at::kLong);
    sample[std::string(name) + "labels"] = at::tensor(labels, at::kLong);
  }
  return sample;
}

TEST(DpoTest, ABatchHoldsTheChosenRowsFirst) {
  const auto batch = preference_collator(0)({preference({5}, {6, 7}, {8}), preference({9, 10}, {11}, {12, 13})});
  EXPECT_TENSORS_EQUAL(batch.at("input_ids"),
                       at::tensor({5, 6, 7, 0, 9, 10, 11, 0, 5, 8, 0, 0, 9, 10, 12, 13}, at::kLong).view({4, 4}));
  EXPECT_TENSORS_EQUAL(
      batch.at("labels"),
      at::tensor({-100, 6, 7, -100, -100, -100, 11, -100, -100, 8, -100, -100, -100, -100, 12, 13}, at::kLong)
          .view({4, 4}));
  EXPECT_TENSORS_EQUAL(batch.at("attention_mask").sum(1), at::tensor({3, 3, 2, 4}, at::kLong));
}

TEST(DpoTest, TheReferenceIsTheModelWithoutItsAdapter) {
  const auto model = tiny_model(tiny_llama());
  PeftModel adapters(model);
  adapters->add_adapter("default", {.r = 2, .lora_dropout = 0.5, .init_lora_weights = LoraInit::kRandom});
  const auto batch = preference_collator(0)({preference({5, 3}, {6, 7}, {8}), preference({9, 10}, {11}, {12, 13})});
  const auto log_probs = [&] {
    return sequence_log_probs(
        model->forward({.input_ids = batch.at("input_ids"), .attention_mask = batch.at("attention_mask")}).logits,
        batch.at("labels"));
  };
  at::Tensor expected;
  {
    const at::NoGradGuard no_grad;
    const auto policy = log_probs().chunk(2);
    const DisableAdapter off(*adapters);
    const auto reference = log_probs().chunk(2);
    expected = dpo_loss({policy[0], policy[1], reference[0], reference[1]}, {.beta = 0.5}).losses.sum() / 4;
  }
  const auto task = dpo_task(*model, *adapters, {.beta = 0.5});
  EXPECT_EQ(task.count_items(batch), 2);
  EXPECT_TENSORS_CLOSE(task.loss(batch, 4).detach(), expected);

  adapters->train();
  task.loss(batch, 2).backward();
  EXPECT_TRUE(model->is_training());
  EXPECT_TRUE(adapters->adapters_enabled());
  for (const auto& parameter : trainable_parameters(*adapters)) {
    EXPECT_GT(parameter.grad().abs().sum().item<double>(), 0);
  }
}

TEST(DpoTest, TrainingPrefersTheChosenAnswers) {
  const auto model = tiny_model(tiny_gptj());
  PeftModel adapters(model);
  adapters->add_adapter("default", {.r = 4});
  const auto task = dpo_task(*model, *adapters);
  const auto batch = preference_collator(0)({preference({5, 3}, {6, 7}, {8, 9}), preference({9, 10}, {11}, {12, 13})});
  AdamW optimizer(trainable_parameters(*adapters), torch::optim::AdamWOptions(2e-2));
  const auto first = task.loss(batch, 2).item<double>();
  EXPECT_NEAR(first, std::log(2.0), 1e-6);  // fresh adapters change nothing: policy and reference agree
  for (int i = 0; i < 60; ++i) {
    optimizer.zero_grad();
    task.loss(batch, 2).backward();
    optimizer.step();
  }
  EXPECT_LT(task.loss(batch, 2).item<double>(), 0.5 * first);
}

TEST(DpoTest, RefusesWhatMakesNoSense) {
  const auto zeros = at::zeros({1});
  EXPECT_ERROR(dpo_loss({zeros, zeros, zeros, zeros}, {.beta = 0}), "beta must be positive", "0");
  EXPECT_ERROR(dpo_loss({zeros, zeros, zeros, zeros}, {.label_smoothing = 0.5}), "label_smoothing", "[0, 0.5)");
  EXPECT_ERROR(sequence_log_probs(at::zeros({1, 3, 4}), at::zeros({1, 2}, at::kLong)), "labels", "[1, 2]");
  EXPECT_ERROR(preference_collator(0)({{{"input_ids", zeros}}}), "preference batch", "chosen_input_ids");
  const auto model = tiny_model(tiny_llama());
  PeftModel adapters(model);
  EXPECT_ERROR(dpo_task(*model, *adapters).count_items({{"input_ids", at::ones({3, 2}, at::kLong)}}), "rejected",
               "3 rows");
}

}  // namespace
}  // namespace transformers::testing
