#pragma once

#include <transformers/utils/optim/lr_scheduler.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/common.h"

namespace transformers::cli {

/// The options of `finetune`, a field an option of the same name; grouped as --help shows them.
struct FinetuneOptions {
  ModelOptions model;

  // Data
  std::string output;           // folder of the result and of checkpoints
  std::string tokenizer;        // folder of the tokenizer; empty: that of the model
  std::string train_file;       // text or JSON objects; this or train_ids
  std::string train_ids;        // safetensors with input_ids and labels [samples, seq]
  std::string eval_file;        // as train_file; empty: no evaluation
  Task task = Task::kCausalLM;  // decides the model's head, the data's form and the metrics
  int64_t seq_length = 512;     // tokens in a block, or the maximum of a sample
  int64_t doc_stride = 128;     // tokens that two parts of a long context share
  bool no_shuffle = false;      // keep the samples in file order

  // Steps
  int64_t batch_size = 8;                   // samples of a micro-batch
  int64_t gradient_accumulation_steps = 1;  // micro-batches per optimizer step
  std::optional<int64_t> max_steps;         // optimizer steps; unset: as many as `epochs` take
  double epochs = 3;                        // passes over the data
  std::string optim = "adamw";              // adamw, adamw_8bit, sgd, lion, adafactor
  double learning_rate = 5e-5;              // the schedule's peak
  std::string lr_schedule = "linear";       // name of a schedule of transformers
  std::string lr_scheduler_kwargs;          // its further arguments as JSON; empty: none
  int64_t warmup_steps = 0;                 // steps until the peak
  double weight_decay = 0;                  // of matrices alone
  double max_grad_norm = 1;                 // 0: gradients are not clipped
  double label_smoothing = 0;               // share of the target spread over the vocabulary
  std::optional<double> neftune_noise_alpha;
  std::optional<double> ema_decay;  // evaluate and write an average of the weights

  // Memory
  bool bf16 = false;                    // autocast
  std::string low_precision = "plain";  // plain, master, stochastic: how small updates are kept
  bool gradient_checkpointing = false;
  std::optional<int64_t> loss_chunk_rows;  // positions whose logits are in memory at once; 0: all; unset: 24 MiB
  bool step_in_backward = false;           // step each parameter inside backward and free its gradient

  // Checkpoints, evaluations, ranks
  int64_t save_every = 0;        // steps between checkpoints; 0: none
  int64_t save_total_limit = 0;  // checkpoints to keep; 0: all
  bool resume = false;           // continue from the newest checkpoint of `output`
  int64_t eval_steps = 0;        // steps between evaluations; 0: only at the end
  bool load_best_model_at_end = false;
  std::string metric_for_best_model = "loss";
  std::optional<int64_t> early_stopping_patience;  // evaluations without an improvement that end the run
  double early_stopping_threshold = 0;             // smallest change that counts as an improvement
  int64_t join_timeout = 300;                      // seconds within which all ranks must have connected
  int64_t rank_timeout = 1800;                     // seconds after which a rank that does not answer is given up
  std::string log_file;                            // one JSON object per step; empty: none
  std::string tensorboard;                         // folder for event files; empty: none

  // Adapters
  int64_t lora_r = 0;                     // rank; 0: no adapters, the whole model is trained
  std::optional<double> lora_alpha;       // unset: peft's default
  double lora_dropout = 0;                // on the adapters' input
  std::vector<std::string> lora_targets;  // names of layers; empty: peft's default for the family
  bool merge = false;                     // write the whole model with the adapters in its weights

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
