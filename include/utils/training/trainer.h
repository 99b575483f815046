#pragma once

/// \file
/// The room utils/training holds the training loop and what belongs to it: tasks, evaluation, metrics, checkpoints and
/// early stopping. Optimizers and schedules are in utils/optim, datasets and batches in utils/data, adapters in
/// utils/peft; each of them can be used in a loop of your own.
///
///     AdamW optimizer(trainable_parameters(*model), torch::optim::AdamWOptions(2e-5));
///     const auto schedule = get_scheduler(SchedulerType::kLinear, optimizer, {.num_training_steps = 1000});
///     BatchLoader batches(dataset, padding_collator(pad_token_id));
///     Trainer trainer(*model, causal_lm_task(*model), optimizer, *schedule, {.max_steps = 1000});
///     trainer.train(batches);

#include <torch/nn/module.h>
#include <transformers/export.h>
#include <transformers/utils/data/batch_loader.h>
#include <transformers/utils/distributed/data_parallel.h>
#include <transformers/utils/optim/exponential_moving_average.h>
#include <transformers/utils/optim/grad_scaler.h>
#include <transformers/utils/optim/lr_scheduler.h>
#include <transformers/utils/optim/optimizer.h>
#include <transformers/utils/optim/step_in_backward.h>
#include <transformers/utils/training/early_stopping.h>
#include <transformers/utils/training/evaluation.h>
#include <transformers/utils/training/training_task.h>

#include <functional>
#include <optional>
#include <string>

namespace TRANSFORMERS_API transformers {

struct TrainingState;

/// The fields of HF's `TrainingArguments` that concern the loop, with HF's defaults where it has them.
struct TrainingArguments {
  /// Optimizer steps in all; see `steps_of_epochs`.
  int64_t max_steps = 0;
  int64_t gradient_accumulation_steps = 1;
  /// Largest norm of all gradients together; 0 or less only measures it.
  double max_grad_norm = 1;
  /// HF's bf16 and fp16: autocast around the loss, for fp16 with a scaled loss.
  Autocast autocast = Autocast::kNone;
  /// Steps from one call of on_log to the next, and the last step's.
  int64_t logging_steps = 500;
  /// Where `checkpoint-<step>` folders go; needed when save_steps is not 0. A small file there, `.training_run`, says
  /// whose checkpoints count: those that an earlier run has left do not.
  std::string output_dir{};
  /// A checkpoint after every so many steps; 0: none.
  int64_t save_steps = 0;
  /// How many checkpoints stay, the newest; 0: all. The newest of all and, with load_best_model_at_end, the best stay
  /// in any case.
  int64_t save_total_limit = 0;
  /// What evaluations go through.
  std::optional<Evaluation> evaluation{};
  /// An evaluation after every so many steps, and after the last; 0: none. Schedules that follow a metric then take a
  /// step after each, instead of one after each training step by its loss.
  int64_t eval_steps = 0;
  /// The run ends with the weights of its best checkpoint, and writes one at its end. save_steps must be a multiple of
  /// eval_steps.
  bool load_best_model_at_end = false;
  /// By what evaluations are compared; with or without "eval_" before it. Where Evaluation::metric_names are known, a
  /// name that is not among them is an error before the first step.
  std::string metric_for_best_model = "loss";
  /// Unset: unless the name ends with "loss" or "perplexity".
  std::optional<bool> greater_is_better{};
  /// Noise on the token embeddings while training; see NeftuneNoise.
  std::optional<double> neftune_noise_alpha{};
  /// See StepInBackward; not with clipping, accumulation, fp16 or ranks.
  bool step_in_backward = false;
  /// Follows every step. Evaluations see the averages; checkpoints hold both. Not owned.
  ExponentialMovingAverage* average = nullptr;
  /// Hears of every evaluation, and ends the run. Not owned.
  EarlyStoppingCallback* early_stopping = nullptr;
  /// Ranks that train replicas of the model, each on its share of every batch (BatchLoaderOptions::rank): the steps are
  /// those of one process with all of it. Rank 0 writes the checkpoints. Ranks whose settings differ, these or
  /// `settings`, get an error before the first step that names the setting and both values.
  std::optional<ProcessGroup> process_group{};
  /// Settings of the caller that a resumed run and all ranks must share, by name, e.g. {"seed", "42"}. max_steps need
  /// not be among them: a run may be continued to more steps than it was saved with, not to fewer.
  std::map<std::string, std::string> settings{};
};

/// What one optimizer step was.
struct TrainingLog {
  int64_t step = 0;  // from 1
  double epoch = 0;  // of the data seen so far
  double loss = 0;
  double learning_rate = 0;  // the first group's, which the step used
  double grad_norm = 0;      // before clipping
  double tokens_per_second = 0;
};

/// Where a run stands; HF's class of that name.
struct TrainerState {
  int64_t global_step = 0;
  /// The best of all evaluations, and the step it came after; unset and 0 before the first.
  std::optional<double> best_metric{};
  int64_t best_global_step = 0;
  /// The folder of the best step that was saved; empty when none was.
  std::string best_model_checkpoint{};
};

/// What the loop calls, on every rank. Returning false stops the run. The model and the trainer keep their state, so
/// you can save it or continue: a run that is stopped this way does not load its best model.
struct TrainerCallbacks {
  /// After each step.
  std::function<bool(const TrainingLog& log)> on_step{};
  /// Writes the model into a folder that is there and empty; a checkpoint is this and the trainer's own state. Where
  /// neither this nor read_model is set: `save_pretrained` of a PreTrainedModel, or of a PeftModel with one active
  /// adapter.
  std::function<void(const std::string& folder)> write_model{};
  /// Puts the weights that write_model wrote there into the model; load_best_model_at_end alone needs it.
  std::function<void(const std::string& folder)> read_model{};
  /// Every logging_steps: means of loss and speed since the last call, all else the last step's.
  std::function<bool(const TrainingLog& log)> on_log{};
  /// After each evaluation, when `state` knows of it.
  std::function<bool(const Metrics& metrics, const TrainerState& state)> on_evaluate{};
  /// After each checkpoint.
  std::function<bool(const std::string& folder)> on_save{};
};

/// The loop: batches, loss, gradients, clipping, optimizer, schedule, checkpoints. It owns nothing of what it is given;
/// everything must outlive it. A loop of one's own over the same parts is as good.
class Trainer {
 public:
  /// The optimizer is one of the library's or of `torch::optim`; step_in_backward takes only the library's.
  Trainer(torch::nn::Module& model, TrainingTask task, torch::optim::Optimizer& optimizer, LRScheduler& scheduler,
          TrainingArguments arguments, TrainerCallbacks callbacks = {});

  /// Trains, in train mode, until max_steps are done, a callback says no or early stopping does; returns the steps done
  /// in all. Throws, with the step and the samples, on a loss that is not finite. Whatever is thrown before the
  /// optimizer's step, parameters and data then stand as after the step before. A step in whose samples no label counts
  /// changes nothing but the schedule, with a warning that names them.
  int64_t train(BatchLoader& data);

  int64_t steps_done() const { return state_.global_step; }
  const TrainerState& state() const { return state_; }
  /// No steps are left, or early stopping ended the run.
  bool is_finished() const { return stopped_early_ || state_.global_step >= arguments_.max_steps; }

  /// The figures of TrainingArguments::evaluation. Every rank goes through all of the data.
  Metrics evaluate();

  /// Writes `checkpoint-<step>` and removes those beyond save_total_limit. Returns its folder. When it throws, what was
  /// saved before is as it was.
  std::string save_checkpoint(const BatchLoader& data);
  /// The same by this rank alone, after an error: other ranks take no part. Throws when the error came in the middle of
  /// an optimizer's step.
  std::string save_checkpoint_alone(const BatchLoader& data);

  /// Goes on from a checkpoint whose weights the model has already: what follows is bit for bit what an uninterrupted
  /// run would have done. Throws, changing nothing, when a setting is not the one the checkpoint was made with, and,
  /// naming the file, when its numbers cannot be those of this run.
  void resume(const std::string& checkpoint, BatchLoader& data);

 private:
  TrainingLog train_step(BatchLoader& data);
  TrainingLog take_step(BatchLoader& data);
  void check_ranks(const BatchLoader& data) const;
  std::map<std::string, std::string> settings_of_ranks(const BatchLoader& data) const;
  void begin_run() const;
  std::string write_checkpoint_folder(const BatchLoader& data, bool together_with_ranks);
  void check_step(const StateDict& progress) const;
  void check_progress(const StateDict& progress, const BatchLoader& data) const;
  void load_parts(const TrainingState& state);
  StateDict optimizer_state() const;
  void load_optimizer_state(const StateDict& state);
  double count_items(const std::vector<Batch>& batches, const BatchLoader& data) const;
  double backward(const std::vector<Batch>& batches, double num_items, const BatchLoader& data);
  double backward(const Batch& batch, double num_items, int64_t place, const BatchLoader& data);
  at::Tensor loss_of(const Batch& batch, double num_items) const;
  double over_ranks(double value, ReduceOp op) const;
  bool all_go_on(bool this_one) const { return over_ranks(this_one ? 1 : 0, ReduceOp::kMin) != 0; }
  double update_parameters();
  bool log_step(const TrainingLog& log);
  bool after_step(BatchLoader& data);
  bool evaluate_step();
  bool greater_is_better() const;
  bool is_better(double metric) const;
  void load_best_model();
  bool writes() const;
  TrainingState training_state(const BatchLoader& data) const;
  std::map<std::string, std::string> settings(const BatchLoader& data) const;

  torch::nn::Module& model_;
  TrainingTask task_;
  torch::optim::Optimizer& optimizer_;
  LRScheduler& scheduler_;
  TrainingArguments arguments_;
  TrainerCallbacks callbacks_;
  std::unique_ptr<DistributedDataParallel<torch::nn::Module>> replicas_;  // null: this process alone
  std::optional<GradScaler> scaler_;
  std::unique_ptr<StepInBackward> in_backward_;  // while training so
  TrainerState state_;
  bool stopped_early_ = false;
  bool in_step_ = false;  // while parameters, schedule and averages are changed
  std::string run_;       // tells the checkpoints of this run from others'
  // Since the last on_log.
  int64_t logged_steps_ = 0;
  double logged_loss_ = 0, logged_tokens_per_second_ = 0;
};

/// Steps that see every sample `epochs` times, the last one perhaps beyond.
int64_t steps_of_epochs(double epochs, const BatchLoader& data, int64_t gradient_accumulation_steps);

/// The newest complete `checkpoint-<step>` folder of the run that was last begun in a folder; empty when there is none.
std::string last_checkpoint(const std::string& output_dir);

}  // namespace transformers
