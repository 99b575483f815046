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

namespace transformers {
struct TrainingState;
}  // namespace transformers

namespace TRANSFORMERS_API transformers {

/// The fields of HF's `TrainingArguments` that concern the loop, with HF's defaults where it has them.
struct TrainingArguments {
  /// Total number of optimizer steps; see `steps_of_epochs`.
  int64_t max_steps = 0;
  int64_t gradient_accumulation_steps = 1;
  /// Limit for the norm of all gradients together; 0 or less only measures it.
  double max_grad_norm = 1;
  /// HF's bf16 and fp16: autocast around the loss; for fp16 the loss is scaled as well.
  Autocast autocast = Autocast::kNone;
  /// on_log is called after every so many steps, and after the last.
  int64_t logging_steps = 500;
  /// Parent of the `checkpoint-<step>` folders; needed when save_steps is not 0. A small file there, `.training_run`,
  /// names the current run, so that checkpoints of earlier runs are not counted.
  std::string output_dir{};
  /// A checkpoint is written after every so many steps; 0: none.
  int64_t save_steps = 0;
  /// How many of the newest checkpoints are kept; 0: all. The newest one and, with load_best_model_at_end, the best one
  /// are always kept.
  int64_t save_total_limit = 0;
  /// Data and metrics of evaluations.
  std::optional<Evaluation> evaluation{};
  /// An evaluation runs after every so many steps, and after the last; 0: none. Schedules that follow a metric then
  /// take a step after each evaluation, instead of one after each training step with its loss.
  int64_t eval_steps = 0;
  /// The run ends with the weights of its best checkpoint, and writes a checkpoint at its end. save_steps must be a
  /// multiple of eval_steps.
  bool load_best_model_at_end = false;
  /// The metric by which evaluations are compared, with or without the prefix "eval_". If Evaluation::metric_names are
  /// set, a name that is not among them is an error before the first step.
  std::string metric_for_best_model = "loss";
  /// Unset: true unless the name ends with "loss" or "perplexity".
  std::optional<bool> greater_is_better{};
  /// Noise on the token embeddings while training; see NeftuneNoise.
  std::optional<double> neftune_noise_alpha{};
  /// See StepInBackward; cannot be combined with clipping, accumulation, fp16 or ranks.
  bool step_in_backward = false;
  /// Updated after every step. Evaluations use the averages; checkpoints hold both. Not owned.
  ExponentialMovingAverage* average = nullptr;
  /// Notified of every evaluation; may end the run. Not owned.
  EarlyStoppingCallback* early_stopping = nullptr;
  /// Ranks that train replicas of the model, each on its share of every batch (BatchLoaderOptions::rank). The steps
  /// equal those of one process with the whole batch. Rank 0 writes the checkpoints. Ranks whose settings differ, these
  /// or `settings`, get an error before the first step that names the setting and both values.
  std::optional<ProcessGroup> process_group{};
  /// Settings of the caller that a resumed run and all ranks must share, by name, e.g. {"seed", "42"}. max_steps need
  /// not be among them: a run may be continued to more steps than it was saved with, but not to fewer.
  std::map<std::string, std::string> settings{};
};

/// The values of one optimizer step.
struct TrainingLog {
  int64_t step = 0;  // from 1
  double epoch = 0;  // of the data seen so far
  double loss = 0;
  double learning_rate = 0;  // that of the first group, as used by the step
  double grad_norm = 0;      // before clipping
  double tokens_per_second = 0;
};

/// The progress of a run; HF's class of that name.
struct TrainerState {
  int64_t global_step = 0;
  /// The best metric of all evaluations, and the step after which it was reached; unset and 0 before the first.
  std::optional<double> best_metric{};
  int64_t best_global_step = 0;
  /// The checkpoint folder of the best step; empty when it was not saved.
  std::string best_model_checkpoint{};
};

/// Functions that the loop calls, on every rank. Returning false stops the run. The model and the trainer keep their
/// state, so you can save it or continue: a run that is stopped this way does not load its best model.
struct TrainerCallbacks {
  /// After each step.
  std::function<bool(const TrainingLog& log)> on_step{};
  /// Writes the model into an existing, empty folder; a checkpoint consists of this and the trainer's own state. If
  /// neither this nor read_model is set, `save_pretrained` of a PreTrainedModel, or of a PeftModel with one active
  /// adapter, is used.
  std::function<void(const std::string& folder)> write_model{};
  /// Loads the weights that write_model wrote there into the model; only load_best_model_at_end needs it.
  std::function<void(const std::string& folder)> read_model{};
  /// Every logging_steps: means of loss and speed since the last call, and the other values of the last step.
  std::function<bool(const TrainingLog& log)> on_log{};
  /// After each evaluation; `state` includes it already.
  std::function<bool(const Metrics& metrics, const TrainerState& state)> on_evaluate{};
  /// After each checkpoint.
  std::function<bool(const std::string& folder)> on_save{};
};

/// The loop: batches, loss, gradients, clipping, optimizer, schedule, checkpoints. It does not own its arguments; all
/// of them must outlive it. The same parts can be used in a loop of your own.
class Trainer {
 public:
  /// The optimizer may be one of the library's or of `torch::optim`; step_in_backward needs one of the library's.
  Trainer(torch::nn::Module& model, TrainingTask task, torch::optim::Optimizer& optimizer, LRScheduler& scheduler,
          TrainingArguments arguments, TrainerCallbacks callbacks = {});

  /// Trains in train mode until max_steps are done, a callback returns false or early stopping ends the run. Returns
  /// the total number of steps done. Throws, with the step and the samples, on a loss that is not finite. After any
  /// error before the optimizer's step, parameters and data are as after the previous step. A step in whose samples no
  /// label counts changes only the schedule, with a warning that names the samples.
  int64_t train(BatchLoader& data);

  int64_t steps_done() const { return state_.global_step; }
  const TrainerState& state() const { return state_; }
  /// All steps are done, or early stopping ended the run.
  bool is_finished() const { return stopped_early_ || state_.global_step >= arguments_.max_steps; }

  /// Computes the metrics of TrainingArguments::evaluation. Every rank evaluates all of the data.
  Metrics evaluate();

  /// Writes `checkpoint-<step>` and removes those beyond save_total_limit. Returns its folder. When it throws, earlier
  /// checkpoints are unchanged.
  std::string save_checkpoint(const BatchLoader& data);
  /// The same on this rank alone, without the other ranks, after an error. Throws when the error occurred in the middle
  /// of an optimizer's step.
  std::string save_checkpoint_alone(const BatchLoader& data);

  /// Continues from a checkpoint whose weights the model has already, bit for bit as an uninterrupted run. Throws,
  /// changing nothing, when a setting differs from that of the checkpoint, and, naming the file, when its numbers
  /// cannot be those of this run.
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
  std::unique_ptr<StepInBackward> in_backward_;  // set during training with step_in_backward
  TrainerState state_;
  bool stopped_early_ = false;
  bool in_step_ = false;  // while parameters, schedule and averages are changed
  std::string run_;       // distinguishes the checkpoints of this run from others
  // Since the last on_log.
  int64_t logged_steps_ = 0;
  double logged_loss_ = 0, logged_tokens_per_second_ = 0;
};

/// The number of steps that see every sample `epochs` times; the last step is rounded up.
int64_t steps_of_epochs(double epochs, const BatchLoader& data, int64_t gradient_accumulation_steps);

/// The newest complete `checkpoint-<step>` folder of the run that was last begun in a folder; empty when there is none.
std::string last_checkpoint(const std::string& output_dir);

}  // namespace transformers
