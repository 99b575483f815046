#include <ATen/ATen.h>
#include <transformers/utils/peft/peft_model.h>
#include <transformers/utils/training/neftune.h>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/training/run_start.h"
#include "utils/training/training_run.h"

namespace transformers::testing {
namespace {

GoldenCase start_of(const std::string& family) {
  for (const auto& c : golden_cases("training", "runs_" + family)) {
    if (c.name == "start") {
      return c;
    }
  }
  return {};
}

TEST(NeftuneTest, NoiseIsPythonsAndOnlyInTraining) {
  const auto cases = golden_cases("training", "neftune");
  ASSERT_EQ(cases.size(), 2U);
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    const auto model = model_of(start_of(c.name));
    auto embeddings = model->get_input_embeddings();
    embeddings->set_weight(c.tensor("weight"));
    {
      const NeftuneNoise noise(*model, c.get<double>("alpha"));
      model->train();
      at::manual_seed(c.get<uint64_t>("seed"));
      EXPECT_TENSORS_CLOSE(embeddings(c.tensor("ids")), c.tensor("noisy"));
      model->eval();
      EXPECT_TENSORS_EQUAL(embeddings(c.tensor("ids")), c.tensor("clean"));
    }
    model->train();
    EXPECT_TENSORS_EQUAL(embeddings(c.tensor("ids")), c.tensor("clean"));
  }
}

TEST(NeftuneTest, ARunWithNoiseGivesPythonsLosses) {
  for (const auto& c : golden_cases("training", "neftune_run")) {
    SCOPED_TRACE(c.name);
    const auto start = start_of(c.name);
    const auto model = model_of(start);
    const auto options = torch::optim::AdamWOptions(5e-3).weight_decay(0);
    AdamW optimizer(trainable_parameters(*model), options);
    const auto scheduler = get_scheduler(SchedulerType::kConstant, optimizer);
    BatchLoader data(std::make_shared<TensorDataset>(
                         Batch{{"input_ids", start.tensor("input_ids")}, {"labels", start.tensor("labels")}}),
                     padding_collator(0), {.batch_size = 2, .shuffle = false});
    std::vector<double> losses;
    Trainer trainer(*model, causal_lm_task(*model), optimizer, *scheduler,
                    {.max_steps = 8, .neftune_noise_alpha = c.get<double>("alpha")},
                    {.on_step = [&losses](const TrainingLog& log) {
                      losses.push_back(log.loss);
                      return true;
                    }});
    at::manual_seed(c.get<uint64_t>("seed"));
    trainer.train(data);
    EXPECT_TENSORS_CLOSE(at::tensor(losses, at::kDouble), c.tensor("loss"), {.relative = 1e-5, .absolute = 0});
    EXPECT_FALSE(model->get_input_embeddings()->has_forward_hooks());
  }
}

TEST(NeftuneTest, TheModelInsideAnAdapterModelIsFound) {
  const auto model = tiny_model(tiny_llama());
  PeftModel adapters(model);
  const NeftuneNoise noise(*adapters, 1);
  EXPECT_TRUE(model->get_input_embeddings()->has_forward_hooks());
}

TEST(NeftuneTest, WhatHasNoEmbeddingsIsRefused) {
  torch::nn::Module empty;
  EXPECT_ERROR(NeftuneNoise(empty, 1), "embeddings");
  EXPECT_ERROR(NeftuneNoise(*tiny_model(tiny_llama()), 0), "neftune_noise_alpha", "0");
}

}  // namespace
}  // namespace transformers::testing
