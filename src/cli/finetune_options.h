#pragma once

#include <transformers/utils/optim/lr_scheduler.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/common.h"

namespace transformers::cli {

/// The options of `finetune`. The texts of --help, in finetune_options.cpp, explain each of them.
struct FinetuneOptions {
  ModelOptions model;
  Task task = Task::kCausalLM;
  std::string output, tokenizer, train_file, train_ids, eval_file, log_file, tensorboard;
  std::string lr_schedule = "linear", lr_scheduler_kwargs, low_precision = "plain", optim = "adamw",
              metric_for_best_model = "loss";
  int64_t seq_length = 512, doc_stride = 128, batch_size = 8, gradient_accumulation_steps = 1, warmup_steps = 0;
  int64_t join_timeout = 300, rank_timeout = 1800;
  int64_t save_every = 0, save_total_limit = 0, eval_steps = 0;
  std::optional<int64_t> max_steps, early_stopping_patience, loss_chunk_rows;
  double epochs = 3, learning_rate = 5e-5, weight_decay = 0, max_grad_norm = 1, label_smoothing = 0;
  double early_stopping_threshold = 0;
  std::optional<double> neftune_noise_alpha, ema_decay;
  int64_t lora_r = 0;
  std::optional<double> lora_alpha;
  double lora_dropout = 0;
  std::vector<std::string> lora_targets;
  bool merge = false, no_shuffle = false, bf16 = false, gradient_checkpointing = false, resume = false;
  bool load_best_model_at_end = false, step_in_backward = false;

  /// The folder of the tokenizer; empty if there is none.
  const std::string& tokenizer_folder() const { return tokenizer.empty() ? model.model : tokenizer; }
};

/// Whether the name of a file for training or evaluation is that of JSON objects; otherwise it is that of a text.
/// Throws, listing the supported forms, for any other name.
bool holds_objects(const std::string& file);

/// Adds all options of `finetune` except those of the model.
void add_finetune_options(CLI::App& command, FinetuneOptions& options);

/// Ends the program with exit status 2 when options cannot be combined.
void check_options(const FinetuneOptions& options);

/// Converts HF's lr_scheduler_kwargs and adds the warm-up and the length of the run.
SchedulerOptions scheduler_options(const FinetuneOptions& options, SchedulerType type, int64_t max_steps);

}  // namespace transformers::cli
