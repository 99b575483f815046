// The options of `finetune` and the rules between them; a combination that makes no sense ends the program with status
// 2.
#include "cli/finetune_options.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>

#include "cli/usage.h"

namespace transformers::cli {
namespace {

/// The extensions of tables and archives. They are not texts, although some consist of characters.
constexpr std::array kForeignForms{".csv", ".tsv",  ".parquet", ".arrow", ".feather", ".xls",   ".xlsx", ".ods",
                                   ".npy", ".npz",  ".pt",      ".pth",   ".pkl",     ".bin",   ".gguf", ".safetensors",
                                   ".zip", ".gz",   ".bz2",     ".xz",    ".zst",     ".tar",   ".tgz",  ".7z",
                                   ".pdf", ".docx", ".odt",     ".epub",  ".db",      ".sqlite"};

/// Adds options with a rule for their numbers.
struct Adder {
  CLI::App& command;

  template <typename Field>
  CLI::Option* positive(const char* name, Field& field, const char* help) const {
    return command.add_option(name, field, help)->check(positive_number());
  }
  template <typename Field>
  void not_negative(const char* name, Field& field, const char* help) const {
    command.add_option(name, field, help)->check(not_negative_number())->capture_default_str();
  }
};

void add_data_options(CLI::App& command, FinetuneOptions& options) {
  command.add_option("--output", options.output, "folder for the trained model and its checkpoints")->required();
  command.add_option("--tokenizer", options.tokenizer, "folder of the tokenizer; without it that of --model");
  command.add_option("--train-file", options.train_file,
                     "a text: packed blocks; .jsonl, or .json with an array: text, prompt + completion, text + label, "
                     "question + context + answers, tokens + labels");
  command.add_option("--train-ids", options.train_ids, "safetensors: input_ids [samples, seq] and labels");
  command.add_option("--eval-file", options.eval_file, "as --train-file; loss and the task's metrics at the end");
  add_task_option(command, options.task, "task to train", /*trainable=*/true);
  const Adder add{command};
  add.positive("--seq-length", options.seq_length, "tokens in a block, or the maximum of a sample")
      ->capture_default_str();
  add.not_negative("--doc-stride", options.doc_stride, "tokens that two parts of a long context share");
  command.add_flag("--no-shuffle", options.no_shuffle, "keep the samples in file order");
}

void add_step_options(CLI::App& command, FinetuneOptions& options) {
  const Adder add{command};
  add.positive("--batch-size", options.batch_size, "samples of a micro-batch")->capture_default_str();
  add.positive("--gradient-accumulation-steps", options.gradient_accumulation_steps, "micro-batches per optimizer step")
      ->capture_default_str();
  auto* steps = add.positive("--max-steps", options.max_steps, "optimizer steps");
  add.positive("--epochs", options.epochs, "passes over the data")->capture_default_str()->excludes(steps);
  command.add_option("--optim", options.optim, "optimizer; adamw_8bit keeps 2 bytes of state a parameter")
      ->check(CLI::IsMember({"adamw", "adamw_8bit", "sgd", "lion", "adafactor"}))
      ->capture_default_str();
  add.not_negative("--learning-rate", options.learning_rate, "peak learning rate of the schedule");
  command.add_option("--lr-schedule", options.lr_schedule, "linear, cosine, constant, ... as in transformers")
      ->capture_default_str();
  command.add_option("--lr-scheduler-kwargs", options.lr_scheduler_kwargs,
                     "further arguments of the schedule, as JSON with transformers' names: {\"min_lr_rate\": 0.1}");
  add.not_negative("--warmup-steps", options.warmup_steps, "steps until the peak learning rate");
  add.not_negative("--weight-decay", options.weight_decay, "not applied to biases and norms");
  add.not_negative("--max-grad-norm", options.max_grad_norm, "gradients are clipped to this norm; 0: no clipping");
  add.not_negative("--label-smoothing", options.label_smoothing, "share of the target spread over the vocabulary");
  add.positive("--neftune-noise-alpha", options.neftune_noise_alpha, "noise on the token embeddings, e.g. 5");
  command.add_option("--ema-decay", options.ema_decay, "evaluate and write an average of the weights, e.g. 0.999")
      ->check(CLI::Range(0.0, 1.0));
}

void add_memory_options(CLI::App& command, FinetuneOptions& options) {
  command.add_flag("--bf16", options.bf16, "autocast: matmuls in bfloat16, weights unchanged");
  command.add_option("--low-precision", options.low_precision, "how small updates of bf16 and fp16 weights are kept")
      ->check(CLI::IsMember({"plain", "master", "stochastic"}))
      ->capture_default_str();
  command.add_flag("--gradient-checkpointing", options.gradient_checkpointing, "less memory, about a third slower");
  command
      .add_option("--loss-chunk-rows", options.loss_chunk_rows,
                  "positions whose logits are kept in memory at once (0: all; default: as many as fit in 24 MiB)")
      ->check(not_negative_number());
  command.add_flag(
      "--step-in-backward", options.step_in_backward,
      "step each parameter inside backward and free its gradient; needs --max-grad-norm 0 and no accumulation");
}

void add_evaluation_options(CLI::App& command, FinetuneOptions& options) {
  const Adder add{command};
  add.not_negative("--save-every", options.save_every, "steps between checkpoints; 0: none");
  add.not_negative("--save-total-limit", options.save_total_limit, "checkpoints to keep; 0: all");
  command.add_flag("--resume", options.resume, "continue from the newest checkpoint in --output");
  add.not_negative("--eval-steps", options.eval_steps, "steps between evaluations; 0: only at the end");
  command.add_flag("--load-best-model-at-end", options.load_best_model_at_end,
                   "write the best checkpoint's weights; --save-every must be a multiple of --eval-steps");
  command
      .add_option("--metric-for-best-model", options.metric_for_best_model,
                  "loss, perplexity, accuracy, f1, exact_match, ...")
      ->capture_default_str();
  add.positive("--early-stopping-patience", options.early_stopping_patience,
               "end the run after this many evaluations without an improvement");
  add.not_negative("--early-stopping-threshold", options.early_stopping_threshold,
                   "smallest change that counts as an improvement");
  add.positive("--join-timeout", options.join_timeout, "seconds within which all ranks must have connected")
      ->capture_default_str();
  add.positive("--rank-timeout", options.rank_timeout,
               "seconds after which the other ranks give up on one that does not answer")
      ->capture_default_str();
  command.add_option("--log-file", options.log_file, "file for one JSON object per step");
  command.add_option("--tensorboard", options.tensorboard, "folder for TensorBoard's event files");
}

void add_lora_options(CLI::App& command, FinetuneOptions& options) {
  command.add_option("--lora-r", options.lora_r, "rank of LoRA adapters; only they are trained and written; 0: none")
      ->check(not_negative_number())
      ->capture_default_str();
  command.add_option("--lora-alpha", options.lora_alpha, "adapters are scaled by alpha / r; 8")
      ->check(positive_number());
  command.add_option("--lora-dropout", options.lora_dropout, "dropout on the adapters' input")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command.add_option("--lora-targets", options.lora_targets, "names of layers, e.g. q_proj,v_proj (the default)")
      ->delimiter(',');
  command.add_flag("--merge", options.merge, "write the full model with the adapters merged into its weights");
}

}  // namespace

void add_finetune_options(CLI::App& command, FinetuneOptions& options) {
  add_data_options(command, options);
  add_step_options(command, options);
  add_memory_options(command, options);
  add_evaluation_options(command, options);
  add_lora_options(command, options);
}

bool holds_objects(const std::string& file) {
  auto form = std::filesystem::path(file).extension().string();
  std::transform(form.begin(), form.end(), form.begin(), [](unsigned char c) { return std::tolower(c); });
  TORCH_CHECK(
      std::count(kForeignForms.begin(), kForeignForms.end(), form) == 0, file, ": a ", form,
      " file cannot be used for training; accepted are a text (.txt), a JSON object a line (.jsonl), or an array of "
      "objects (.json)");
  return form == ".jsonl" || form == ".ndjson" || form == ".json";
}

void check_options(const FinetuneOptions& options) {
  const bool is_causal = options.task == Task::kCausalLM;
  const auto is_lines = [](const std::string& file) { return file.empty() || holds_objects(file); };
  require_usage(options.train_file.empty() != options.train_ids.empty(),
                "exactly one of --train-file and --train-ids is needed");
  require_usage(!options.tokenizer_folder().empty() || (options.train_file.empty() && options.eval_file.empty()),
                "--train-file and --eval-file need a tokenizer: that of --model, or --tokenizer");
  require_usage(is_causal || (is_lines(options.train_file) && is_lines(options.eval_file)),
                "--task " + std::string(kind_of(options.task).name) + " reads .jsonl and .json files");
  require_usage(options.lora_r > 0 || (!options.merge && options.lora_targets.empty() && !options.lora_alpha),
                "--merge, --lora-alpha and --lora-targets need --lora-r");
  require_usage(options.lora_r == 0 || !options.model.model.empty(), "--lora-r needs --model");
  require_usage(options.model.quantize.empty() || (options.lora_r > 0 && !options.merge),
                "--quantize freezes the weights: it needs --lora-r, and --merge would round them again");
  require_usage(!options.loss_chunk_rows || is_causal, "--loss-chunk-rows is for causal-lm");
  require_usage(options.eval_steps == 0 || !options.eval_file.empty(), "--eval-steps needs --eval-file");
  require_usage(options.eval_steps > 0 || (!options.load_best_model_at_end && !options.early_stopping_patience),
                "--load-best-model-at-end and --early-stopping-patience need --eval-steps");
}

}  // namespace transformers::cli
