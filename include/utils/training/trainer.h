#pragma once

#include <torch/nn/module.h>
#include <transformers/utils/distributed/data_parallel.h>
#include <transformers/utils/training/batch_loader.h>
#include <transformers/utils/training/grad_scaler.h>
#include <transformers/utils/training/lr_scheduler.h>
#include <transformers/utils/training/optimizer.h>

#include <functional>
#include <optional>
#include <string>

namespace transformers {

/// How batches become a loss. A step's loss is a sum over all its micro-batches divided by what they count together, so
/// that accumulation changes nothing; HF's `num_items_in_batch`.
struct TrainingTask {
  /// What a batch adds to the denominator: its learned tokens, its rows.
  std::function<int64_t(const Batch& batch)> count_items{};
  /// The batch's share of the step's loss, []: its summed loss divided by `num_items`.
  std::function<at::Tensor(const Batch& batch, double num_items)> loss{};
};

enum class Autocast { kNone, kBFloat16, kFloat16 };

/// The fields of HF's `TrainingArguments` that concern the loop, with HF's defaults where it has them.
struct TrainingArguments {
  /// Optimizer steps in all; see `steps_of_epochs`.
  int64_t max_steps = 0;
  int64_t gradient_accumulation_steps = 1;
  /// Largest norm of all gradients together; 0 or less only measures it.
  double max_grad_norm = 1;
  /// HF's bf16 and fp16: autocast around the loss, for fp16 with a scaled loss.
  Autocast autocast = Autocast::kNone;
  /// Where checkpoint-<step> folders go; needed when save_steps is not 0.
  std::string output_dir{};
  /// A checkpoint after every so many steps; 0: none.
  int64_t save_steps = 0;
  /// How many checkpoints stay, the newest; 0: all.
  int64_t save_total_limit = 0;
  /// Ranks that train replicas of the model, each on its share of every batch (BatchLoaderOptions::rank): the steps are
  /// those of one process with all of it. Rank 0 writes the checkpoints.
  std::optional<ProcessGroup> process_group{};
  /// Settings of the caller that a resumed run must share, by name, e.g. {"seed", "42"}.
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

struct TrainerCallbacks {
  /// After each step, on every rank; false from any ends the run.
  std::function<bool(const TrainingLog& log)> on_step{};
  /// Writes the model into a folder that is there and empty; a checkpoint is this and the trainer's own state.
  std::function<void(const std::string& folder)> write_model{};
};

/// The loop: batches, loss, gradients, clipping, optimizer, schedule, checkpoints. It owns nothing of what it is given;
/// everything must outlive it. A loop of one's own over the same parts is as good.
class Trainer {
 public:
  Trainer(torch::nn::Module& model, TrainingTask task, Optimizer& optimizer, LRScheduler& scheduler,
          TrainingArguments arguments, TrainerCallbacks callbacks = {});

  /// Trains, in train mode, until max_steps are done or on_step says no; returns the steps done in all. Throws, with
  /// the step and the samples, on a loss that is not finite; the parameters are then those of the step before.
  int64_t train(BatchLoader& data);

  int64_t steps_done() const { return step_; }

  /// Writes checkpoint-<step> and removes those beyond save_total_limit. Returns its folder.
  std::string save_checkpoint(const BatchLoader& data);

  /// Goes on from a checkpoint whose weights the model has already: what follows is bit for bit what an uninterrupted
  /// run would have done. Throws, changing nothing, when a setting is not the one the checkpoint was made with.
  void resume(const std::string& checkpoint, BatchLoader& data);

 private:
  TrainingLog train_step(BatchLoader& data);
  double backward(const std::vector<Batch>& batches, const BatchLoader& data);
  double backward(const Batch& batch, double num_items, int64_t place, const BatchLoader& data);
  at::Tensor loss_of(const Batch& batch, double num_items) const;
  double over_ranks(double value, ReduceOp op) const;
  double update_parameters();
  void write_checkpoint(const std::string& folder, const BatchLoader& data);
  std::map<std::string, std::string> settings(const BatchLoader& data) const;

  torch::nn::Module& model_;
  TrainingTask task_;
  Optimizer& optimizer_;
  LRScheduler& scheduler_;
  TrainingArguments arguments_;
  TrainerCallbacks callbacks_;
  std::unique_ptr<DistributedDataParallel<torch::nn::Module>> replicas_;  // null: this process alone
  std::optional<GradScaler> scaler_;
  int64_t step_ = 0;
};

/// Steps that see every sample `epochs` times, the last one perhaps beyond.
int64_t steps_of_epochs(double epochs, const BatchLoader& data, int64_t gradient_accumulation_steps);

/// The newest complete checkpoint-<step> folder of a run; empty when there is none.
std::string last_checkpoint(const std::string& output_dir);

}  // namespace transformers
