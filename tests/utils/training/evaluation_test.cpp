#include <ATen/ATen.h>
#include <transformers/utils/training/evaluation.h>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/training/training_run.h"

namespace transformers::testing {
namespace {

TEST(EvaluationTest, TheLossIsTheMeanOverAllTokensWhateverTheBatches) {
  const auto model = model_with_dropout();
  const auto task = causal_lm_task(*model);
  model->train();
  auto evaluation = held_out();
  const auto ids = tiny_ids(4, 6);
  const auto found = evaluate(*model, task, evaluation);
  EXPECT_TRUE(model->is_training());
  EXPECT_EQ(found.size(), 1U);
  model->eval();
  const auto expected = model->forward({.input_ids = ids}, {.labels = ids}).loss.item<double>();
  EXPECT_NEAR(found.at("eval_loss"), expected, 1e-6);
  evaluation.per_device_eval_batch_size = 1;
  EXPECT_NEAR(evaluate(*model, task, evaluation).at("eval_loss"), expected, 1e-6);
  EXPECT_FALSE(model->is_training());
}

TEST(EvaluationTest, MetricsSeeInputsAndReducedLogitsOfEverySample) {
  const auto model = tiny_model(tiny_llama());
  auto evaluation = held_out();
  evaluation.preprocess_logits_for_metrics = [](const Batch& logits) {
    return Batch{{"ids", logits.at("logits").argmax(-1)}};
  };
  evaluation.compute_metrics = [](const EvalPrediction& all) -> Metrics {
    EXPECT_EQ(all.inputs.size(), 2U);
    EXPECT_TENSORS_EQUAL(at::cat({all.inputs[0].at("input_ids"), all.inputs[1].at("input_ids")}), tiny_ids(4, 6));
    EXPECT_EQ(all.predictions[1].at("ids").sizes(), (std::vector<int64_t>{1, 6}));
    return {{"one", 1}, {"eval_two", 2}};
  };
  const auto metrics = evaluate(*model, causal_lm_task(*model, {.loss_chunk_rows = 4}), evaluation);
  EXPECT_EQ(metrics.at("eval_one"), 1);
  EXPECT_EQ(metrics.at("eval_two"), 2);
  evaluation.compute_metrics = nullptr;
  const auto chunked = evaluate(*model, causal_lm_task(*model, {.loss_chunk_rows = 4}), evaluation);
  EXPECT_NEAR(metrics.at("eval_loss"), chunked.at("eval_loss"), 1e-6);
}

TEST(EvaluationTest, WhatCannotBeEvaluatedIsRefused) {
  const auto model = tiny_model(tiny_llama());
  auto task = causal_lm_task(*model);
  EXPECT_ERROR(evaluate(*model, task, {}), "dataset");
  auto evaluation = held_out();
  evaluation.per_device_eval_batch_size = 0;
  EXPECT_ERROR(evaluate(*model, task, evaluation), "per_device_eval_batch_size", "0");
  evaluation = held_out();
  evaluation.compute_metrics = [](const EvalPrediction&) { return Metrics(); };
  task.predict = nullptr;
  EXPECT_ERROR(evaluate(*model, task, evaluation), "compute_metrics", "predict");
  const auto ids = tiny_ids(1, 4);
  evaluation.compute_metrics = nullptr;
  evaluation.dataset = std::make_shared<TensorDataset>(Batch{{"input_ids", ids}, {"labels", at::full_like(ids, -100)}});
  EXPECT_ERROR(evaluate(*model, task, evaluation), "no label");
}

}  // namespace
}  // namespace transformers::testing
