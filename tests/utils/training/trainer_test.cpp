#include <ATen/ATen.h>
#include <torch/optim/adamw.h>
#include <transformers/utils/io/safetensors.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "support/golden_collection.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "support/warning_recorder.h"
#include "utils/training/run_start.h"
#include "utils/training/training_run.h"

namespace transformers::testing {
namespace {

namespace fs = std::filesystem;
using torch::optim::AdamWOptions;

constexpr int64_t kSteps = 20;

SchedulerOptions scheduler_options(const nlohmann::json& run) {
  SchedulerOptions options{.num_warmup_steps = run.value("warmup_steps", 0), .num_training_steps = kSteps};
  const auto given = run.value("scheduler_options", nlohmann::json::object());
  if (given.contains("min_lr_rate")) {
    options.min_lr_rate = given["min_lr_rate"].get<double>();
  }
  if (given.contains("num_decay_steps")) {
    options.num_decay_steps = given["num_decay_steps"].get<int64_t>();
  }
  return options;
}

/// A curve of the golden, and what our loop made of the same settings.
void expect_run(const GoldenCase& start, const GoldenCase& golden) {
  const auto& run = golden.arguments.at("options");
  const auto model = model_of(start);
  const auto options = AdamWOptions(5e-3).weight_decay(run.value("weight_decay", 0.0));
  AdamW optimizer(decay_groups(*model, options), options);
  const auto scheduler = get_scheduler(scheduler_type_from_name(run.value("lr_scheduler_type", "constant")), optimizer,
                                       scheduler_options(run));
  BatchLoader data(std::make_shared<TensorDataset>(
                       Batch{{"input_ids", start.tensor("input_ids")}, {"labels", start.tensor("labels")}}),
                   padding_collator(0), {.batch_size = 2, .shuffle = false});
  std::vector<double> losses, norms, rates;
  const auto record = [&](const TrainingLog& log) {
    losses.push_back(log.loss);
    norms.push_back(log.grad_norm);
    rates.push_back(log.learning_rate);
    return true;
  };
  if (run.value("gradient_checkpointing", false)) {
    model->gradient_checkpointing_enable();
  }
  Trainer trainer(*model, causal_lm_task(*model, {.label_smoothing = run.value("label_smoothing", 0.0)}), optimizer,
                  *scheduler,
                  {.max_steps = kSteps,
                   .gradient_accumulation_steps = run.value("gradient_accumulation_steps", 1),
                   .max_grad_norm = run.value("max_grad_norm", 1.0)},
                  {.on_step = record});
  EXPECT_EQ(trainer.train(data), kSteps);

  const auto in_double = [](const std::vector<double>& values) { return at::tensor(values, at::kDouble); };
  EXPECT_TENSORS_CLOSE(in_double(losses), golden.tensor("loss"), {.relative = 1e-5, .absolute = 0});
  EXPECT_TENSORS_CLOSE(in_double(norms), golden.tensor("grad_norm"), {.relative = 1e-5, .absolute = 0});
  EXPECT_TENSORS_CLOSE(in_double(rates), golden.tensor("learning_rate"), {.relative = 1e-12, .absolute = 0});
  for (const auto& [name, expected] : golden.tensors) {
    if (name.starts_with("final.")) {
      SCOPED_TRACE(name);
      EXPECT_TRUE(tensors_close_to_largest(state_dict(*model)[name.substr(6)], expected, 1e-5));
    }
  }
}

TEST(TrainerTest, TwentyStepsGivePythonsCurvesAndWeights) {
  for (const auto* family : {"llama", "gptj"}) {
    const auto cases = golden_cases("training", std::string("runs_") + family);
    ASSERT_EQ(cases.size(), 15U);
    const auto start = std::find_if(cases.begin(), cases.end(), [](const auto& c) { return c.name == "start"; });
    for (const auto& c : cases) {
      if (c.name != "start") {
        SCOPED_TRACE(std::string(family) + " " + c.name);
        expect_run(*start, c);
      }
    }
  }
}

TEST(TrainerTest, AResumedRunIsBitForBitTheUninterruptedOne) {
  for (const auto precision : {Autocast::kNone, Autocast::kBFloat16}) {
    const TemporaryFolder folder;
    const auto path = folder.path().string();
    at::manual_seed(21);
    TrainingRun whole(model_with_dropout(), path, {.autocast = precision});
    whole.trainer.train(whole.data);

    at::manual_seed(21);
    TrainingRun stopped(model_with_dropout(), path, {.autocast = precision, .save_steps = 4},
                        {.on_step = [](const TrainingLog& log) { return log.step < 6; }});
    EXPECT_EQ(stopped.trainer.train(stopped.data), 6);

    at::manual_seed(99);
    const auto checkpoint = last_checkpoint(path);
    EXPECT_EQ(fs::path(checkpoint).filename(), "checkpoint-4");
    TrainingRun resumed(AutoModelForCausalLM::from_pretrained(checkpoint), path, {.autocast = precision});
    resumed.trainer.resume(checkpoint, resumed.data);
    EXPECT_EQ(resumed.trainer.train(resumed.data), 9);
    expect_same_weights(*resumed.model, *whole.model);
  }
}

TEST(TrainerTest, TheNewestCheckpointsStayAndIncompleteOnesDoNotCount) {
  const TemporaryFolder folder;
  const auto path = folder.path().string();
  TrainingRun run(model_with_dropout(), path, {.save_steps = 2, .save_total_limit = 2});
  run.trainer.train(run.data);
  EXPECT_EQ(last_checkpoint(path), (folder.path() / "checkpoint-8").string());
  EXPECT_TRUE(fs::exists(folder.path() / "checkpoint-6"));
  EXPECT_FALSE(fs::exists(folder.path() / "checkpoint-4"));
  fs::remove(folder.path() / "checkpoint-8" / "training_state.safetensors");
  EXPECT_EQ(last_checkpoint(path), (folder.path() / "checkpoint-6").string());
  EXPECT_EQ(last_checkpoint((folder.path() / "nowhere").string()), "");
}

TEST(TrainerTest, AChangedSettingIsNamedAtResume) {
  const TemporaryFolder folder;
  const auto path = folder.path().string();
  TrainingRun run(model_with_dropout(), path, {.save_steps = 3, .settings = {{"seed", "42"}}});
  run.trainer.train(run.data);
  TrainingRun other(model_with_dropout(), path, {.settings = {{"seed", "43"}}});
  EXPECT_ERROR(other.trainer.resume(last_checkpoint(path), other.data), "seed", "42", "43");
  EXPECT_EQ(other.trainer.steps_done(), 0);
  TrainingRun norm(model_with_dropout(), path, {.max_grad_norm = 2, .settings = {{"seed", "42"}}});
  EXPECT_ERROR(norm.trainer.resume(last_checkpoint(path), norm.data), "max_grad_norm", "1.0", "2.0");
}

TEST(TrainerTest, ALossThatIsNotFiniteNamesStepAndSamples) {
  const TemporaryFolder folder;
  TrainingRun run(tiny_model(tiny_llama()), folder.path().string(), {});
  auto task = causal_lm_task(*run.model);
  int calls = 0;
  const auto loss = task.loss;
  task.loss = [&](const Batch& batch, double num_items) {
    return ++calls == 4 ? loss(batch, num_items) * std::numeric_limits<double>::quiet_NaN() : loss(batch, num_items);
  };
  Trainer trainer(*run.model, task, run.optimizer, *run.scheduler, {.max_steps = 5, .gradient_accumulation_steps = 2});
  const auto samples = run.data.sample_indices(3);
  const auto text = std::to_string(samples[0]) + ", " + std::to_string(samples[1]) + ", " + std::to_string(samples[2]);
  EXPECT_ERROR(trainer.train(run.data), "step 2", "nan", text);
  EXPECT_EQ(trainer.steps_done(), 1);
}

TEST(TrainerTest, HalfPrecisionWithAScaledLossFollowsFp32) {
  const TemporaryFolder folder;
  const auto losses = [&](Autocast precision) {
    std::vector<double> curve;
    TrainingRun run(tiny_model(tiny_llama()), folder.path().string(), {.autocast = precision},
                    {.on_step = [&curve](const TrainingLog& log) {
                      curve.push_back(log.loss);
                      return true;
                    }});
    run.trainer.train(run.data);
    return at::tensor(curve, at::kDouble);
  };
  const auto exact = losses(Autocast::kNone);
  EXPECT_TENSORS_CLOSE(losses(Autocast::kBFloat16), exact, {.relative = 3e-2, .absolute = 0});
  EXPECT_TENSORS_CLOSE(losses(Autocast::kFloat16), exact, {.relative = 1e-2, .absolute = 0});
}

TEST(TrainerTest, WhatCannotBeTrainedIsRefused) {
  const TemporaryFolder folder;
  TrainingRun run(tiny_model(tiny_llama()), folder.path().string(), {});
  const auto make = [&](TrainingArguments arguments) {
    Trainer(*run.model, causal_lm_task(*run.model), run.optimizer, *run.scheduler, std::move(arguments));
  };
  EXPECT_ERROR(make({.max_steps = 0}), "max_steps", "0");
  EXPECT_ERROR(make({.max_steps = 1, .gradient_accumulation_steps = 0}), "gradient_accumulation_steps");
  EXPECT_ERROR(make({.max_steps = 1, .save_steps = 1}), "output_dir");
  BatchLoader strange(std::make_shared<TensorDataset>(Batch{{"input_ids", at::ones({1, 3}, at::kLong)},
                                                            {"labels", at::ones({1, 3}, at::kLong)},
                                                            {"colour", at::ones({1})}}),
                      padding_collator(0), {.batch_size = 1});
  EXPECT_ERROR(run.trainer.train(strange), "colour");
}

TEST(TrainerTest, AStepWithoutALabelLearnsNothingAndIsNamed) {
  const TemporaryFolder folder;
  TrainingRun run(tiny_model(tiny_llama()), folder.path().string(), {});
  auto labels = tiny_ids(3, 5);
  labels[1].fill_(-100);
  BatchLoader data(std::make_shared<TensorDataset>(Batch{{"input_ids", tiny_ids(3, 5)}, {"labels", labels}}),
                   padding_collator(0), {.batch_size = 1, .shuffle = false});
  std::vector<at::Tensor> weights;
  const auto keep = [&](const TrainingLog&) {
    weights.push_back(run.model->parameters().front().detach().clone());
    return true;
  };
  WarningRecorder warnings;
  Trainer trainer(*run.model, causal_lm_task(*run.model), run.optimizer, *run.scheduler, {.max_steps = 3},
                  {.on_step = keep});
  EXPECT_EQ(trainer.train(data), 3);
  EXPECT_TENSORS_EQUAL(weights[1], weights[0]);
  EXPECT_FALSE(at::equal(weights[2], weights[1]));
  EXPECT_TRUE(warnings.saw("step 2 learns nothing: no label counts in samples 1"));
}

TEST(TrainerTest, AnOptimizerOfTorchIsTrainedWithAndResumedBitForBit) {
  const TemporaryFolder folder;
  const auto path = folder.path().string();
  struct Run {
    std::shared_ptr<CausalLM> model;
    torch::optim::AdamW optimizer;
    std::unique_ptr<LRScheduler> scheduler;
    BatchLoader data;
    Trainer trainer;
    Run(std::shared_ptr<CausalLM> of, const std::string& output_dir)
        : model(std::move(of)),
          optimizer(model->parameters(), AdamWOptions(1e-2)),
          scheduler(get_scheduler(SchedulerType::kLinear, optimizer, {.num_training_steps = 8})),
          data(random_samples(), padding_collator(0), {.batch_size = 3}),
          // Neither write_model nor read_model: a model of the library needs none.
          trainer(*model, causal_lm_task(*model), optimizer, *scheduler,
                  {.max_steps = 8, .output_dir = output_dir, .save_steps = 4}) {}
  };
  Run whole(tiny_model(tiny_llama()), path);
  whole.trainer.train(whole.data);
  const auto checkpoint = folder / "checkpoint-4";
  Run resumed(AutoModelForCausalLM::from_pretrained(checkpoint), path);
  resumed.trainer.resume(checkpoint, resumed.data);
  resumed.trainer.train(resumed.data);
  expect_same_weights(*resumed.model, *whole.model);
}

TEST(TrainerTest, TheBestModelIsLoadedWithoutCallbacks) {
  for (const bool tied : {false, true}) {
    const TemporaryFolder folder;
    auto config = tiny_llama();
    config.tie_word_embeddings = tied;
    const auto model = tiny_model(config);
    AdamW optimizer(trainable_parameters(*model), AdamWOptions(0.3));  // diverges: an early step is the best
    const auto scheduler = get_scheduler(SchedulerType::kConstant, optimizer);
    BatchLoader data(random_samples(), padding_collator(0), {.batch_size = 3});
    Trainer trainer(*model, causal_lm_task(*model), optimizer, *scheduler,
                    {.max_steps = 6,
                     .output_dir = folder.path().string(),
                     .save_steps = 1,
                     .evaluation = held_out(),
                     .eval_steps = 1,
                     .load_best_model_at_end = true});
    trainer.train(data);
    expect_same_weights(*model, *AutoModelForCausalLM::from_pretrained(trainer.state().best_model_checkpoint));
  }
}

TEST(TrainerTest, ARunGoesOnToMoreStepsAndNotToFewer) {
  const TemporaryFolder folder;
  const auto path = folder.path().string();
  TrainingRun run(model_with_dropout(), path, {.save_steps = 9});
  run.trainer.train(run.data);
  const auto checkpoint = last_checkpoint(path);
  const auto going_on = [&](int64_t max_steps) {
    auto model = AutoModelForCausalLM::from_pretrained(checkpoint);
    AdamW optimizer(decay_groups(*model, AdamWOptions(1e-2)));
    const auto scheduler =
        get_scheduler(SchedulerType::kLinear, optimizer, {.num_warmup_steps = 2, .num_training_steps = max_steps});
    BatchLoader data(random_samples(), padding_collator(0), {.batch_size = 3});
    Trainer trainer(*model, causal_lm_task(*model), optimizer, *scheduler,
                    {.max_steps = max_steps, .gradient_accumulation_steps = 2, .output_dir = path});
    trainer.resume(checkpoint, data);
    return trainer.train(data);
  };
  EXPECT_EQ(going_on(11), 11);
  EXPECT_ERROR(going_on(8), "max_steps 9", "8");
}

TEST(TrainerTest, OnlyCheckpointsOfTheRunThatWasLastBegunAreResumed) {
  const TemporaryFolder folder;
  const auto path = folder.path().string();
  TrainingRun old(model_with_dropout(), path, {.save_steps = 4});
  old.trainer.train(old.data);
  EXPECT_EQ(last_checkpoint(path), folder / "checkpoint-8");
  int steps = 0;
  TrainingRun stopped(model_with_dropout(), path, {}, {.on_step = [&](const TrainingLog&) { return ++steps < 2; }});
  stopped.trainer.train(stopped.data);
  EXPECT_EQ(last_checkpoint(path), "");
  stopped.trainer.save_checkpoint(stopped.data);
  EXPECT_EQ(last_checkpoint(path), folder / "checkpoint-2");
  fs::remove(folder.path() / ".training_run");  // as in a copy of the folder that leaves hidden files out
  EXPECT_EQ(last_checkpoint(path), folder / "checkpoint-2");
}

/// The checkpoint's training state with one tensor exchanged.
void write_state_with(const std::string& folder, const std::string& name, const at::Tensor& value) {
  const auto path = folder + "/training_state.safetensors";
  torch::OrderedDict<std::string, at::Tensor> tensors;
  std::map<std::string, std::string> metadata;
  {
    const SafetensorsFile file(path);
    metadata = file.metadata();
    for (const auto& info : file.tensors()) {
      tensors.insert(info.name, info.name == name ? value : file.tensor(info.name).clone());
    }
  }
  save_safetensors(path, tensors, metadata);
}

TEST(TrainerTest, NumbersOfACheckpointThatCannotBeAreNamed) {
  const TemporaryFolder folder;
  const auto path = folder.path().string();
  TrainingRun run(model_with_dropout(), path, {.save_steps = 4, .save_total_limit = 1});
  run.trainer.train(run.data);
  const auto checkpoint = last_checkpoint(path);
  const auto number = [](double value) { return at::tensor({value}, at::kDouble); };
  const std::vector<std::pair<std::string, at::Tensor>> cases{
      {"progress.step", number(NAN)},
      {"progress.step", number(-1)},
      {"progress.step", number(2.5)},
      {"progress.step", number(1e300)},
      {"progress.step", number(10)},
      {"progress.position", number(1e18)},
      {"progress.position", number(-2)},
      {"progress.position", number(INFINITY)},
      {"progress.position", number(17)},
      {"progress.best_step", number(9)},
      {"progress.max_steps", number(NAN)},
      {"progress.logged", at::tensor({NAN, 0.0, 0.0}, at::kDouble)},
      {"scheduler.last_epoch", number(NAN)},
      {"scheduler.base_lrs", at::tensor({NAN, 1.0}, at::kDouble)},
      {"optimizer.0.step", at::scalar_tensor(NAN)}};
  const auto saved = checkpoint + "/training_state.safetensors", copy = path + "/kept";
  fs::copy_file(saved, copy);
  for (const auto& [name, value] : cases) {
    SCOPED_TRACE(name);
    fs::copy_file(copy, saved, fs::copy_options::overwrite_existing);
    write_state_with(checkpoint, name, value);
    TrainingRun resumed(AutoModelForCausalLM::from_pretrained(checkpoint), path, {});
    const auto tensor = name.substr(name.find('.') + 1);
    EXPECT_ERROR(resumed.trainer.resume(checkpoint, resumed.data), "training_state.safetensors", tensor);
    EXPECT_EQ(resumed.trainer.steps_done(), 0);
  }
}

TEST(TrainerTest, AMetricThatIsNoneIsRefusedBeforeTheFirstStep) {
  const TemporaryFolder folder;
  TrainingRun run(tiny_model(tiny_llama()), folder.path().string(), {});
  auto evaluation = held_out();
  evaluation.metric_names = {"perplexity"};
  evaluation.derived_metrics = [](const Metrics& metrics) -> Metrics {
    return {{"perplexity", std::exp(metrics.at("eval_loss"))}};
  };
  const auto make = [&](const std::string& metric) {
    return Trainer(*run.model, causal_lm_task(*run.model), run.optimizer, *run.scheduler,
                   {.max_steps = 2, .evaluation = evaluation, .eval_steps = 1, .metric_for_best_model = metric});
  };
  EXPECT_ERROR(make("accuracy"), "accuracy", "loss, perplexity");
  auto trainer = make("eval_perplexity");
  trainer.train(run.data);
  const auto state = trainer.state();
  EXPECT_NEAR(trainer.evaluate().at("eval_perplexity"), std::exp(trainer.evaluate().at("eval_loss")), 1e-9);
  EXPECT_EQ(state.best_global_step, 2);  // lower is better
}

TEST(TrainerTest, AnErrorInAStepLeavesTheRunWhereTheStepBeganAndItCanBeSaved) {
  const TemporaryFolder folder;
  const auto path = folder.path().string();
  TrainingRun whole(tiny_model(tiny_llama()), path, {});
  whole.trainer.train(whole.data);

  TrainingRun run(tiny_model(tiny_llama()), path, {});
  auto task = causal_lm_task(*run.model);
  int calls = 0;
  task.loss = [&calls, loss = task.loss](const Batch& batch, double num_items) {
    TORCH_CHECK(++calls != 6, "the second micro-batch of step 3 fails");
    return loss(batch, num_items);
  };
  Trainer trainer(*run.model, task, run.optimizer, *run.scheduler,
                  {.max_steps = 9, .gradient_accumulation_steps = 2, .output_dir = path});
  EXPECT_ERROR(trainer.train(run.data), "step 3 fails");
  const auto checkpoint = trainer.save_checkpoint_alone(run.data);
  TrainingRun resumed(AutoModelForCausalLM::from_pretrained(checkpoint), path, {});
  resumed.trainer.resume(checkpoint, resumed.data);
  resumed.trainer.train(resumed.data);
  expect_same_weights(*resumed.model, *whole.model);
}

TEST(TrainerTest, StepsOfEpochsCountWholeSteps) {
  BatchLoader data(random_samples(10), padding_collator(0), {.batch_size = 3});
  EXPECT_EQ(steps_of_epochs(1, data, 1), 4);
  EXPECT_EQ(steps_of_epochs(3, data, 2), 5);
  EXPECT_ERROR(steps_of_epochs(0, data, 1), "epochs", "0");
}

}  // namespace
}  // namespace transformers::testing
