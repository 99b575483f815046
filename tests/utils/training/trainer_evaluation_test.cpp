#include <ATen/ATen.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>

#include "support/golden_collection.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/training/training_run.h"

namespace transformers::testing {
namespace {

namespace fs = std::filesystem;

/// An evaluation whose metric takes these values one after the other, and then the last.
Evaluation scripted(std::vector<double> values) {
  auto evaluation = held_out();
  evaluation.compute_metrics = [values, i = size_t{0}](const EvalPrediction&) mutable {
    const auto value = values[std::min(i++, values.size() - 1)];
    return Metrics{{"metric", value}};
  };
  return evaluation;
}

TEST(TrainerEvaluationTest, BestMetricAndEarlyStoppingFollowPython) {
  for (const auto& c : golden_cases("training", "evaluations")) {
    SCOPED_TRACE(c.name);
    const TemporaryFolder folder;
    const auto& rows = c.arguments["rows"];
    EarlyStoppingCallback stopping(c.get<int64_t>("patience"), c.get<double>("threshold"));
    size_t seen = 0;
    const auto on_evaluate = [&](const Metrics& metrics, const TrainerState& state) {
      EXPECT_EQ(metrics.at("eval_metric"), c.arguments["metrics"][seen].get<double>());
      EXPECT_EQ(*state.best_metric, rows[seen][2].get<double>());
      EXPECT_EQ(state.best_global_step, rows[seen][3].get<int64_t>());
      ++seen;
      return true;
    };
    TrainingRun run(tiny_model(tiny_llama()), folder.path().string(),
                    {.evaluation = scripted(c.arguments["metrics"].get<std::vector<double>>()),
                     .eval_steps = 1,
                     .metric_for_best_model = "metric",
                     .greater_is_better = c.get<bool>("greater_is_better"),
                     .early_stopping = &stopping},
                    {.on_evaluate = on_evaluate});
    const auto stops =
        std::find_if(rows.begin(), rows.end(), [](const auto& row) { return row[1].template get<bool>(); });
    ASSERT_NE(stops, rows.end());
    EXPECT_EQ(run.trainer.train(run.data), stops - rows.begin() + 1);
    EXPECT_EQ(static_cast<int64_t>(seen), run.trainer.steps_done());
  }
}

TEST(TrainerEvaluationTest, TheBestCheckpointStaysAndItsWeightsComeBack) {
  const TemporaryFolder folder;
  const auto path = folder.path().string();
  std::vector<std::string> saved;
  TrainingRun run(model_with_dropout(), path,
                  {.save_steps = 2,
                   .save_total_limit = 2,
                   .evaluation = scripted({3, 1, 2, 2, 2}),
                   .eval_steps = 2,
                   .load_best_model_at_end = true,
                   .metric_for_best_model = "eval_metric",
                   .greater_is_better = false},
                  {.on_save = [&saved](const std::string& checkpoint) {
                    saved.push_back(fs::path(checkpoint).filename());
                    return true;
                  }});
  EXPECT_EQ(run.trainer.train(run.data), 9);
  const std::vector<std::string> expected{"checkpoint-2", "checkpoint-4", "checkpoint-6", "checkpoint-8",
                                          "checkpoint-9"};
  EXPECT_EQ(saved, expected);
  EXPECT_EQ(run.trainer.state().best_model_checkpoint, folder / "checkpoint-4");
  EXPECT_TRUE(fs::exists(folder / "checkpoint-4"));
  EXPECT_FALSE(fs::exists(folder / "checkpoint-8"));
  EXPECT_TRUE(fs::exists(folder / "checkpoint-9"));
  expect_same_weights(*run.model, *AutoModelForCausalLM::from_pretrained(folder / "checkpoint-4"));
}

TEST(TrainerEvaluationTest, WithOneCheckpointAllowedOnlyTheBestIsLeft) {
  const TemporaryFolder folder;
  TrainingRun run(model_with_dropout(), folder.path().string(),
                  {.save_steps = 3,
                   .save_total_limit = 1,
                   .evaluation = scripted({0.1, 0.9, 0.5}),
                   .eval_steps = 3,
                   .load_best_model_at_end = true,
                   .metric_for_best_model = "metric"});
  run.trainer.train(run.data);
  EXPECT_EQ(last_checkpoint(folder.path().string()), folder / "checkpoint-6");
  EXPECT_FALSE(fs::exists(folder / "checkpoint-9"));
}

TEST(TrainerEvaluationTest, LogsAreMeansAndTheLastStepIsLogged) {
  const TemporaryFolder folder;
  std::vector<double> steps, logged;
  std::vector<int64_t> at;
  TrainingRun run(tiny_model(tiny_llama()), folder.path().string(), {.logging_steps = 4},
                  {.on_step =
                       [&steps](const TrainingLog& log) {
                         steps.push_back(log.loss);
                         return true;
                       },
                   .on_log =
                       [&](const TrainingLog& log) {
                         at.push_back(log.step);
                         logged.push_back(log.loss);
                         return true;
                       }});
  run.trainer.train(run.data);
  EXPECT_EQ(at, (std::vector<int64_t>{4, 8, 9}));
  EXPECT_DOUBLE_EQ(logged[1], (steps[4] + steps[5] + steps[6] + steps[7]) / 4);
  EXPECT_EQ(logged[2], steps[8]);
}

TEST(TrainerEvaluationTest, EveryCallbackMayStop) {
  const auto steps = [](TrainerCallbacks callbacks) {
    const TemporaryFolder folder;
    TrainingRun run(tiny_model(tiny_llama()), folder.path().string(),
                    {.logging_steps = 2, .save_steps = 3, .evaluation = held_out(), .eval_steps = 4},
                    std::move(callbacks));
    return run.trainer.train(run.data);
  };
  EXPECT_EQ(steps({}), 9);
  EXPECT_EQ(steps({.on_step = [](const TrainingLog&) { return false; }}), 1);
  EXPECT_EQ(steps({.on_log = [](const TrainingLog&) { return false; }}), 2);
  EXPECT_EQ(steps({.on_evaluate = [](const Metrics&, const TrainerState&) { return false; }}), 4);
  EXPECT_EQ(steps({.on_save = [](const std::string&) { return false; }}), 3);
}

TEST(TrainerEvaluationTest, ASchedulerThatFollowsAMetricFollowsTheEvaluation) {
  const auto model = tiny_model(tiny_llama());
  AdamW optimizer(trainable_parameters(*model), torch::optim::AdamWOptions(1e-2));
  ReduceLROnPlateau scheduler(optimizer, {.factor = 0.5, .patience = 0});
  BatchLoader data(random_samples(), padding_collator(0), {.batch_size = 3});
  std::vector<double> rates;
  Trainer trainer(*model, causal_lm_task(*model), optimizer, scheduler,
                  {.max_steps = 6,
                   .evaluation = scripted({1, 2, 2}),
                   .eval_steps = 2,
                   .metric_for_best_model = "metric",
                   .greater_is_better = false},
                  {.on_step = [&rates](const TrainingLog& log) {
                    rates.push_back(log.learning_rate);
                    return true;
                  }});
  trainer.train(data);
  EXPECT_EQ(rates, (std::vector<double>{1e-2, 1e-2, 1e-2, 1e-2, 5e-3, 5e-3}));
}

/// Everything a run may carry at once: evaluation, early stopping, averages, noise, log windows.
struct FullRun {
  std::shared_ptr<CausalLM> model;
  EarlyStoppingCallback stopping{4};
  ExponentialMovingAverage average;
  std::vector<double> record;
  TrainingRun run;

  explicit FullRun(std::shared_ptr<CausalLM> of, const std::string& output_dir, int64_t stop_after = 9)
      : model(std::move(of)),
        average(*model, 0.8),
        run(model, output_dir,
            {.logging_steps = 3,
             .save_steps = 4,
             .evaluation = held_out(),
             .eval_steps = 2,
             .load_best_model_at_end = stop_after == 9,
             .neftune_noise_alpha = 2.0,
             .average = &average,
             .early_stopping = &stopping},
            {.on_step = [stop_after](const TrainingLog& log) { return log.step < stop_after || stop_after == 9; },
             .on_log =
                 [this](const TrainingLog& log) {
                   record.push_back(log.loss);
                   return true;
                 },
             .on_evaluate =
                 [this](const Metrics& metrics, const TrainerState& state) {
                   record.insert(record.end(), {metrics.at("eval_loss"), *state.best_metric});
                   return true;
                 }}) {}
};

TEST(TrainerEvaluationTest, ARunWithEverythingGoesOnBitForBit) {
  const TemporaryFolder folder, other;
  at::manual_seed(21);
  FullRun whole(model_with_dropout(), folder.path().string());
  whole.run.trainer.train(whole.run.data);

  at::manual_seed(21);
  FullRun stopped(model_with_dropout(), other.path().string(), 5);
  EXPECT_EQ(stopped.run.trainer.train(stopped.run.data), 5);
  stopped.run.trainer.save_checkpoint(stopped.run.data);

  at::manual_seed(99);
  const auto checkpoint = last_checkpoint(other.path().string());
  EXPECT_EQ(fs::path(checkpoint).filename(), "checkpoint-5");
  FullRun resumed(AutoModelForCausalLM::from_pretrained(checkpoint), other.path().string());
  resumed.run.trainer.resume(checkpoint, resumed.run.data);
  EXPECT_EQ(resumed.run.trainer.state().best_metric, stopped.run.trainer.state().best_metric);
  resumed.run.trainer.train(resumed.run.data);
  auto record = stopped.record;
  record.insert(record.end(), resumed.record.begin(), resumed.record.end());
  EXPECT_EQ(record, whole.record);
  EXPECT_EQ(resumed.run.trainer.state().best_global_step, whole.run.trainer.state().best_global_step);
  expect_same_weights(*resumed.model, *whole.model);
  const auto averages = whole.average.state_dict();
  for (const auto& item : resumed.average.state_dict()) {
    EXPECT_TENSORS_EQUAL(item.value(), averages[item.key()]);
  }
}

/// No file may grow beyond so many bytes, as on a full disk, for the guard's lifetime.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit old_{};
  void (*handler_)(int);
};

TEST(TrainerEvaluationTest, AFullDiskInMidSaveLeavesTheLastCheckpointToGoOnFrom) {
  const TemporaryFolder folder;
  const auto path = folder.path().string();
  at::manual_seed(21);
  TrainingRun whole(model_with_dropout(), folder / "whole", {});
  whole.trainer.train(whole.data);

  at::manual_seed(21);
  std::optional<FileSizeLimit> limit;
  TrainingRun run(model_with_dropout(), path, {.save_steps = 3, .save_total_limit = 1},
                  {.on_save = [&limit](const std::string&) {
                    limit.emplace(10'000);
                    return true;
                  }});
  EXPECT_ERROR(run.trainer.train(run.data), "checkpoint-6", "cannot be written", "File too large");
  EXPECT_ERROR(run.trainer.save_checkpoint(run.data), "checkpoint-6", "cannot be written");
  limit.reset();
  EXPECT_EQ(last_checkpoint(path), folder / "checkpoint-3");
  for (const auto& entry : fs::directory_iterator(path)) {
    EXPECT_TRUE(entry.path().filename() == "checkpoint-3" || entry.path().filename() == ".training_run")
        << entry.path();
  }
  TrainingRun resumed(AutoModelForCausalLM::from_pretrained(folder / "checkpoint-3"), path, {});
  resumed.trainer.resume(folder / "checkpoint-3", resumed.data);
  resumed.trainer.train(resumed.data);
  expect_same_weights(*resumed.model, *whole.model);
}

TEST(TrainerEvaluationTest, ArgumentsThatDoNotGoTogetherAreRefused) {
  const TemporaryFolder folder;
  const auto model = tiny_model(tiny_llama());
  AdamW optimizer(trainable_parameters(*model));
  const auto scheduler = get_scheduler(SchedulerType::kConstant, optimizer);
  EarlyStoppingCallback stopping;
  const auto make = [&](TrainingArguments arguments, TrainerCallbacks callbacks = {}) {
    arguments.max_steps = 1;
    arguments.output_dir = folder.path().string();
    callbacks.write_model = [](const std::string&) {};
    return Trainer(*model, causal_lm_task(*model), optimizer, *scheduler, std::move(arguments), std::move(callbacks));
  };
  EXPECT_ERROR(make({.eval_steps = 2}), "eval_steps", "evaluation");
  EXPECT_ERROR(make({.early_stopping = &stopping}), "early_stopping", "eval_steps");
  EXPECT_ERROR(make({.save_steps = 3, .evaluation = held_out(), .eval_steps = 2, .load_best_model_at_end = true}),
               "save_steps", "multiple of eval_steps", "3 and 2");
  EXPECT_ERROR(make({.save_steps = 2, .evaluation = held_out(), .eval_steps = 2, .load_best_model_at_end = true}),
               "read_model");
  EXPECT_ERROR(make({.logging_steps = 0}), "logging_steps", "0");
  EXPECT_ERROR(
      make({.neftune_noise_alpha = -1.0}).train(*std::make_unique<BatchLoader>(random_samples(), padding_collator(0))),
      "neftune_noise_alpha", "-1");
  EXPECT_ERROR(make({}).evaluate(), "evaluation");
  BatchLoader data(random_samples(), padding_collator(0));
  auto unknown = make({.evaluation = held_out(), .eval_steps = 1, .metric_for_best_model = "speed"});
  EXPECT_ERROR(unknown.train(data), "metric_for_best_model", "speed", "eval_loss");
}

}  // namespace
}  // namespace transformers::testing
