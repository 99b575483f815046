#include <transformers/utils/io/save_transaction.h>
#include <transformers/utils/tokenization/tokenizer.h>
#include <transformers/utils/training/parameter_groups.h>
#include <transformers/utils/training/peft_model.h>
#include <transformers/utils/training/trainer.h>
#include <transformers/utils/training/training_tasks.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "cli/common.h"
#include "cli/interrupt.h"
#include "cli/tokenizer_files.h"
#include "cli/training_log.h"

namespace transformers::cli {
namespace {

namespace fs = std::filesystem;
using torch::optim::AdamWOptions;

struct FinetuneOptions {
  ModelOptions model;
  std::string output, train_file, train_ids, eval_file, task = "causal-lm", log_file;
  std::string lr_schedule = "linear", low_precision = "plain";
  int64_t seq_length = 512, batch_size = 8, gradient_accumulation_steps = 1, warmup_steps = 0, save_every = 0;
  int64_t save_total_limit = 0, loss_chunk_rows = 0;
  std::optional<int64_t> max_steps;
  double epochs = 3, learning_rate = 5e-5, weight_decay = 0, max_grad_norm = 1, label_smoothing = 0;
  int64_t lora_r = 0;
  std::optional<double> lora_alpha;
  double lora_dropout = 0;
  std::vector<std::string> lora_targets;
  bool merge = false, no_shuffle = false, bf16 = false, gradient_checkpointing = false, resume = false;
};

/// The model and how it learns.
struct Learner {
  std::shared_ptr<PreTrainedModel> model;
  TrainingTask task;
  PeftModel adapters{nullptr};  // with --lora-r

  torch::nn::Module& trained() { return adapters ? static_cast<torch::nn::Module&>(*adapters) : *model; }
};

/// What fills short samples up.
int64_t padding_token(const PretrainedConfig& config) {
  return config.pad_token_id.value_or(config.eos_token_id.empty() ? 0 : config.eos_token_id.front());
}

Learner load_learner(const FinetuneOptions& options, const ModelOptions& source) {
  if (options.task == "sequence-classification") {
    const auto model = load_model<AutoModelForSequenceClassification>(source);
    // A classifier finds the last token of a text by it.
    model->config().pad_token_id = padding_token(model->config());
    return {model, sequence_classification_task(*model)};
  }
  const auto model = load_model<AutoModelForCausalLM>(source);
  return {model, causal_lm_task(*model, {options.label_smoothing, options.loss_chunk_rows})};
}

/// Fresh adapters, or those of a checkpoint.
void add_adapters(Learner& learner, const FinetuneOptions& options, const std::string& checkpoint) {
  learner.adapters = PeftModel(learner.model);
  if (!checkpoint.empty()) {
    learner.adapters->load_adapter("default", checkpoint, {.is_trainable = true});
    return;
  }
  LoraConfig config;
  config.task_type = options.task == "causal-lm" ? "CAUSAL_LM" : "SEQ_CLS";
  config.base_model_name_or_path = options.model.model;
  config.r = options.lora_r;
  config.lora_alpha = options.lora_alpha.value_or(config.lora_alpha);
  config.lora_dropout = options.lora_dropout;
  config.target_modules.names = options.lora_targets;
  learner.adapters->add_adapter("default", config, {.seed = *options.model.seed});
}

std::shared_ptr<const Dataset> open_data(const FinetuneOptions& options, const std::string& file,
                                         const PreTrainedModel& model) {
  const std::shared_ptr<const Tokenizer> tokenizer = load_tokenizer(options.model.model);
  if (!file.ends_with(".jsonl")) {
    return std::make_shared<TextBlockDataset>(file, *tokenizer, options.seq_length);
  }
  const bool classes = options.task == "sequence-classification";
  return std::make_shared<JsonLinesDataset>(
      file, tokenizer, JsonLinesOptions{options.seq_length, classes ? model.config().num_labels() : 0});
}

std::shared_ptr<const Dataset> training_data(const FinetuneOptions& options, const PreTrainedModel& model) {
  return options.train_ids.empty() ? open_data(options, options.train_file, model)
                                   : TensorDataset::from_file(options.train_ids);
}

/// The ranks that train together: those of torchrun, or of whoever set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT.
std::optional<ProcessGroup> join_ranks() {
  if (std::getenv("RANK") == nullptr || std::getenv("WORLD_SIZE") == nullptr) {
    return std::nullopt;
  }
  return init_process_group();
}

/// Whether this process is the one that speaks and writes.
bool leads(const std::optional<ProcessGroup>& group) { return !group || group->rank() == 0; }

BatchLoaderOptions loader_options(const FinetuneOptions& options, const std::optional<ProcessGroup>& group) {
  return {.batch_size = options.batch_size,
          .shuffle = !options.no_shuffle,
          .seed = *options.model.seed,
          .rank = group ? group->rank() : 0,
          .world_size = group ? group->size() : 1};
}

LowPrecision low_precision(const std::string& name) {
  return name == "master"       ? LowPrecision::kMasterWeights
         : name == "stochastic" ? LowPrecision::kStochasticRounding
                                : LowPrecision::kPlain;
}

TrainingArguments arguments_of(const FinetuneOptions& options, int64_t max_steps) {
  TrainingArguments arguments;
  arguments.max_steps = max_steps;
  arguments.gradient_accumulation_steps = options.gradient_accumulation_steps;
  arguments.max_grad_norm = options.max_grad_norm;
  arguments.autocast = options.bf16 ? Autocast::kBFloat16 : Autocast::kNone;
  arguments.output_dir = options.output;
  arguments.save_steps = options.save_every;
  arguments.save_total_limit = options.save_total_limit;
  arguments.settings = {{"seed", std::to_string(*options.model.seed)},
                        {"task", options.task},
                        {"shuffle", options.no_shuffle ? "off" : "on"},
                        {"learning_rate", std::to_string(options.learning_rate)},
                        {"weight_decay", std::to_string(options.weight_decay)},
                        {"lr_schedule", options.lr_schedule},
                        {"warmup_steps", std::to_string(options.warmup_steps)},
                        {"max_steps", std::to_string(max_steps)},
                        {"low_precision", options.low_precision},
                        {"lora_r", std::to_string(options.lora_r)}};
  return arguments;
}

/// The mean loss over the whole file, and its exponential.
void evaluate(const FinetuneOptions& options, const Learner& learner, TrainingLogFile& log, int64_t step) {
  const at::NoGradGuard no_grad;
  learner.model->eval();
  const auto data = open_data(options, options.eval_file, *learner.model);
  const auto collate = padding_collator(padding_token(learner.model->config()));
  double loss = 0, items = 0;
  for (int64_t first = 0; first < data->size(); first += options.batch_size) {
    std::vector<Batch> samples;
    for (auto i = first; i < std::min(first + options.batch_size, data->size()); ++i) {
      samples.push_back(data->get(i));
    }
    const auto batch = collate(samples);
    loss += learner.task.loss(batch, 1).item<double>();
    items += static_cast<double>(learner.task.count_items(batch));
  }
  log.add_evaluation(step, loss / items);
}

/// A model folder, or with adapters a folder of those; the tokenizer's files come along.
void write_model(const Learner& learner, const FinetuneOptions& options, const std::string& folder) {
  if (learner.adapters) {
    learner.adapters->save_pretrained(folder);
  } else {
    learner.model->save_pretrained(folder);
  }
  if (!options.model.model.empty()) {
    copy_tokenizer(options.model.model, folder);
  }
}

/// Where the weights come from: the newest checkpoint of a run that goes on, else what the options name.
ModelOptions source_of(const FinetuneOptions& options, const std::string& checkpoint) {
  auto source = options.model;
  if (!checkpoint.empty() && options.lora_r == 0) {
    source.model = checkpoint;
    source.config.clear();
  }
  return source;
}

void check_options(const FinetuneOptions& options) {
  require_usage(options.train_file.empty() != options.train_ids.empty(),
                "exactly one of --train-file and --train-ids is needed");
  require_usage(!options.model.model.empty() || (options.train_file.empty() && options.eval_file.empty()),
                "--train-file and --eval-file need the tokenizer of --model");
  require_usage(options.lora_r > 0 || (!options.merge && options.lora_targets.empty() && !options.lora_alpha),
                "--merge, --lora-alpha and --lora-targets need --lora-r");
  require_usage(options.lora_r == 0 || !options.model.model.empty(), "--lora-r needs --model");
  require_usage(options.loss_chunk_rows == 0 || options.task == "causal-lm", "--loss-chunk-rows is for causal-lm");
}

/// Of a run that goes on; empty for one from the start.
std::string checkpoint_to_resume(const FinetuneOptions& options) {
  const auto checkpoint = options.resume ? last_checkpoint(options.output) : "";
  TORCH_CHECK(!options.resume || !checkpoint.empty(), options.output, ": there is no checkpoint to resume from");
  return checkpoint;
}

Learner prepare_learner(const FinetuneOptions& options, const std::string& checkpoint) {
  auto learner = load_learner(options, source_of(options, checkpoint));
  if (options.lora_r > 0) {
    add_adapters(learner, options, checkpoint);
  }
  if (options.gradient_checkpointing) {
    learner.model->gradient_checkpointing_enable();
  }
  return learner;
}

std::unique_ptr<LRScheduler> scheduler_of(const FinetuneOptions& options, AdamW& optimizer, int64_t max_steps) {
  const auto type = from_options([&] { return scheduler_type_from_name(options.lr_schedule); });
  return get_scheduler(type, optimizer, {.num_warmup_steps = options.warmup_steps, .num_training_steps = max_steps});
}

/// To the last step, or until Ctrl-C, which leaves a checkpoint. Returns whether the last step was reached.
bool train(const FinetuneOptions& options, Learner& learner, const std::optional<ProcessGroup>& group,
           const std::string& checkpoint) {
  BatchLoader data(training_data(options, *learner.model), padding_collator(padding_token(learner.model->config())),
                   loader_options(options, group));
  const auto max_steps =
      options.max_steps.value_or(steps_of_epochs(options.epochs, data, options.gradient_accumulation_steps));
  const auto adamw = AdamWOptions(options.learning_rate).weight_decay(options.weight_decay);
  AdamW optimizer(decay_groups(learner.trained(), adamw), adamw, low_precision(options.low_precision));
  const auto scheduler = scheduler_of(options, optimizer, max_steps);
  TrainingLogFile log(leads(group) ? options.log_file : "", max_steps);
  const auto on_step = [&log](const TrainingLog& step) {
    log.add(step);
    return !interrupted();
  };
  const auto write = [&](const std::string& folder) { write_model(learner, options, folder); };
  auto arguments = arguments_of(options, max_steps);
  arguments.process_group = group;
  Trainer trainer(learner.trained(), learner.task, optimizer, *scheduler, std::move(arguments), {on_step, write});
  seed(options.model);  // dropout begins alike, whatever building and loading drew
  if (!checkpoint.empty()) {
    trainer.resume(checkpoint, data);
  }
  log.begin_after(trainer.steps_done());
  watch_for_interrupt();
  if (trainer.train(data) < max_steps) {
    inform("stopped; " + trainer.save_checkpoint(data) + " is where --resume goes on");
    return false;
  }
  if (leads(group) && !options.eval_file.empty()) {
    evaluate(options, learner, log, max_steps);
  }
  return true;
}

void finetune(FinetuneOptions options) {
  check_options(options);
  options.model.seed = options.model.seed.value_or(42);
  apply(options.model);
  const auto group = join_ranks();
  set_quiet(is_quiet() || !leads(group));
  const auto checkpoint = checkpoint_to_resume(options);
  auto learner = prepare_learner(options, checkpoint);
  fs::create_directory(options.output);
  if (!train(options, learner, group, checkpoint)) {
    return;
  }
  learner.trained().eval();
  if (options.merge) {
    learner.adapters->merge_and_unload();
    learner.adapters = nullptr;
  }
  if (leads(group)) {
    write_model(learner, options, options.output);
  }
}

void add_training_options(CLI::App& command, FinetuneOptions& options) {
  const auto positive = [&](const char* name, auto& field, const char* help) {
    return command.add_option(name, field, help)->check(CLI::PositiveNumber);
  };
  const auto not_negative = [&](const char* name, auto& field, const char* help) {
    command.add_option(name, field, help)->check(CLI::NonNegativeNumber)->capture_default_str();
  };
  positive("--seq-length", options.seq_length, "tokens of a block or the most of a sample")->capture_default_str();
  positive("--batch-size", options.batch_size, "samples of a micro-batch")->capture_default_str();
  positive("--gradient-accumulation-steps", options.gradient_accumulation_steps, "micro-batches a step")
      ->capture_default_str();
  auto* steps = positive("--max-steps", options.max_steps, "optimizer steps");
  positive("--epochs", options.epochs, "how often each sample is seen")->capture_default_str()->excludes(steps);
  not_negative("--learning-rate", options.learning_rate, "highest rate of the schedule");
  command.add_option("--lr-schedule", options.lr_schedule, "linear, cosine, constant, ... as in transformers")
      ->capture_default_str();
  not_negative("--warmup-steps", options.warmup_steps, "steps until the highest rate");
  not_negative("--weight-decay", options.weight_decay, "AdamW's; biases and norms are spared");
  not_negative("--max-grad-norm", options.max_grad_norm, "gradients are scaled to this norm; 0: never");
  not_negative("--label-smoothing", options.label_smoothing, "share of the target spread over the vocabulary");
  not_negative("--loss-chunk-rows", options.loss_chunk_rows, "positions whose logits are alive at a time; 0: all");
  not_negative("--save-every", options.save_every, "steps from checkpoint to checkpoint; 0: none");
  not_negative("--save-total-limit", options.save_total_limit, "checkpoints that stay; 0: all");
}

void add_lora_options(CLI::App& command, FinetuneOptions& options) {
  command.add_option("--lora-r", options.lora_r, "rank of LoRA adapters, which alone are trained and written; 0: none")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--lora-alpha", options.lora_alpha, "adapters are scaled by alpha / r; 8")
      ->check(CLI::PositiveNumber);
  command.add_option("--lora-dropout", options.lora_dropout, "on the adapters' input")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command.add_option("--lora-targets", options.lora_targets, "names of layers, e.g. q_proj,v_proj (the default)")
      ->delimiter(',');
  command.add_flag("--merge", options.merge, "write the whole model with the adapters in its weights");
}

}  // namespace

void add_finetune(CLI::App& app) {
  auto* command = app.add_subcommand("finetune", "Train a model folder further on a text, JSON lines or ids");
  auto options = std::make_shared<FinetuneOptions>();
  add_model_options(*command, options->model);
  command->add_option("--output", options->output, "folder for the trained model and its checkpoints")->required();
  command->add_option("--train-file", options->train_file,
                      ".txt: packed blocks; .jsonl: text, prompt + completion, label");
  command->add_option("--train-ids", options->train_ids, "safetensors: input_ids [samples, seq] and labels");
  command->add_option("--eval-file", options->eval_file, "as --train-file; loss and perplexity at the end");
  command->add_option("--task", options->task, "what to learn")
      ->check(CLI::IsMember({"causal-lm", "sequence-classification"}))
      ->capture_default_str();
  add_training_options(*command, *options);
  command->add_option("--low-precision", options->low_precision, "how bf16 and fp16 weights take small updates")
      ->check(CLI::IsMember({"plain", "master", "stochastic"}))
      ->capture_default_str();
  add_lora_options(*command, *options);
  command->add_flag("--no-shuffle", options->no_shuffle, "samples in file order");
  command->add_flag("--bf16", options->bf16, "autocast: products in bfloat16, weights as they are");
  command->add_flag("--gradient-checkpointing", options->gradient_checkpointing, "less memory, about a third slower");
  command->add_flag("--resume", options->resume, "go on from the newest checkpoint in --output");
  command->add_option("--log-file", options->log_file, "a JSON object per step goes there");
  command->footer(
      "Example: transformers-cpp finetune --model models/SmolLM2-135M --train-file book.txt --output tuned");
  command->callback([options] { finetune(*options); });
}

}  // namespace transformers::cli
