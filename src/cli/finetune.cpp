// The subcommand `finetune`: reads options, data and model, runs the Trainer on one process or on the ranks of
// torchrun, and writes the result. Ctrl-C, SIGTERM and errors leave a checkpoint to resume from.
#include <transformers/utils/distributed/together.h>
#include <transformers/utils/distributed/torchrun.h>
#include <transformers/utils/optim/adamw_8bit.h>
#include <transformers/utils/optim/parameter_groups.h>
#include <transformers/utils/training/keep_freed_memory.h>
#include <transformers/utils/training/trainer.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>

#include "cli/finetune_data.h"
#include "cli/finetune_options.h"
#include "cli/finetune_task.h"
#include "cli/folder_lock.h"
#include "cli/interrupt.h"
#include "cli/training_log.h"
#include "utils/distributed/internal/agreement.h"
#include "utils/files/internal/save_journal.h"
#include "utils/optim/internal/numbers.h"
#include "utils/text/named_values.h"
#include "utils/training/internal/model_files.h"

namespace transformers::cli {
namespace {

namespace fs = std::filesystem;

/// The ranks that train together: those of torchrun, or of whoever set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT.
/// `--device cuda` becomes the rank's own.
std::optional<ProcessGroup> join_ranks(FinetuneOptions& options) {
  if (std::getenv("RANK") == nullptr || std::getenv("WORLD_SIZE") == nullptr) {
    return std::nullopt;
  }
  const c10::Device device(options.model.device);
  const std::chrono::seconds timeout(options.rank_timeout), join_timeout(options.join_timeout);
  if (!device.is_cuda()) {
    return init_process_group({.timeout = timeout, .join_timeout = join_timeout});
  }
  TORCH_CHECK(!device.has_index(), "several processes take one device each: --device must be cuda, got ", device);
  const auto group = init_process_group({.backend = "nccl", .timeout = timeout, .join_timeout = join_timeout});
  options.model.device = group.device().str();
  return group;
}

/// Whether torchrun started this process in place of one that ended.
bool was_restarted() {
  const auto worker = torchrun_worker();
  return worker && worker->restart_count > 0;
}

/// Whether this process writes files and messages.
bool leads(const std::optional<ProcessGroup>& group) { return !group || group->rank() == 0; }

BatchLoaderOptions loader_options(const FinetuneOptions& options, const std::optional<ProcessGroup>& group) {
  return {.batch_size = options.batch_size,
          .shuffle = !options.no_shuffle,
          .seed = *options.model.seed,
          .rank = group ? group->rank() : 0,
          .world_size = group ? group->size() : 1};
}

constexpr std::array<NamedValue<LowPrecision>, 3> kLowPrecisions{{{"plain", LowPrecision::kPlain},
                                                                  {"master", LowPrecision::kMasterWeights},
                                                                  {"stochastic", LowPrecision::kStochasticRounding}}};

template <typename Kind, typename Options>
std::unique_ptr<Optimizer> make_optimizer(const FinetuneOptions& options, const torch::nn::Module& model,
                                          Options settings) {
  settings.weight_decay(options.weight_decay);
  return std::make_unique<Kind>(decay_groups(model, settings), settings,
                                value_of_name(kLowPrecisions, "--low-precision", options.low_precision));
}

std::unique_ptr<Optimizer> optimizer_of(const FinetuneOptions& options, const torch::nn::Module& model) {
  const auto rate = options.learning_rate;
  if (options.optim == "adamw_8bit") {
    return make_optimizer<AdamW8bit>(options, model, torch::optim::AdamWOptions(rate));
  }
  if (options.optim == "sgd") {
    return make_optimizer<SGD>(options, model, torch::optim::SGDOptions(rate));
  }
  if (options.optim == "lion") {
    return make_optimizer<Lion>(options, model, LionOptions(rate));
  }
  if (options.optim == "adafactor") {
    // As HF's Trainer sets it up.
    return make_optimizer<Adafactor>(options, model,
                                     AdafactorOptions(rate).scale_parameter(false).relative_step(false));
  }
  return make_optimizer<AdamW>(options, model, torch::optim::AdamWOptions(rate));
}

/// The settings that a resumed run must share, besides those that the trainer compares itself.
std::map<std::string, std::string> settings_of(const FinetuneOptions& options, const std::string& data_checksum) {
  std::string targets;
  for (const auto& target : options.lora_targets) {
    targets += (targets.empty() ? "" : ",") + target;
  }
  return {{"seed", std::to_string(*options.model.seed)},
          {"task", std::string(kind_of(options.task).name)},
          {"shuffle", options.no_shuffle ? "off" : "on"},
          {"seq_length", std::to_string(options.seq_length)},
          {"label_smoothing", exact_text(options.label_smoothing)},
          {"optim", options.optim},
          {"learning_rate", exact_text(options.learning_rate)},
          {"weight_decay", exact_text(options.weight_decay)},
          {"lr_schedule", options.lr_schedule},
          {"warmup_steps", std::to_string(options.warmup_steps)},
          {"lr_scheduler_kwargs", options.lr_scheduler_kwargs},
          {"dtype", options.model.dtype},
          {"data", data_checksum},
          {"low_precision", options.low_precision},
          {"lora_r", std::to_string(options.lora_r)},
          {"lora_alpha", options.lora_alpha ? exact_text(*options.lora_alpha) : "default"},
          {"lora_dropout", exact_text(options.lora_dropout)},
          {"lora_targets", targets},
          {"quantize", options.model.quantize.empty() ? "off" : options.model.quantize}};
}

TrainingArguments arguments_of(const FinetuneOptions& options, int64_t max_steps, const std::string& data_checksum) {
  TrainingArguments arguments;
  arguments.max_steps = max_steps;
  arguments.gradient_accumulation_steps = options.gradient_accumulation_steps;
  arguments.max_grad_norm = options.max_grad_norm;
  arguments.autocast = options.bf16 ? Autocast::kBFloat16 : Autocast::kNone;
  arguments.output_dir = options.output;
  arguments.save_steps = options.save_every;
  arguments.save_total_limit = options.save_total_limit;
  arguments.eval_steps = options.eval_steps;
  arguments.load_best_model_at_end = options.load_best_model_at_end;
  arguments.metric_for_best_model = options.metric_for_best_model;
  arguments.neftune_noise_alpha = options.neftune_noise_alpha;
  arguments.step_in_backward = options.step_in_backward;
  arguments.settings = settings_of(options, data_checksum);
  return arguments;
}

/// The checkpoint that a resumed run continues from; empty for a new run. Rank 0 decides for all ranks.
std::string checkpoint_to_resume(const FinetuneOptions& options, const std::optional<ProcessGroup>& group) {
  const bool goes_on = options.resume || was_restarted();
  auto checkpoint = goes_on && leads(group) ? last_checkpoint(options.output) : "";
  if (group) {
    checkpoint = broadcast_text(*group, checkpoint, /*src=*/0);
  }
  TORCH_CHECK(!options.resume || !checkpoint.empty(), options.output,
              ": there is no checkpoint of the run that was started last here to resume from");
  if (!checkpoint.empty()) {
    inform("continuing from " + checkpoint);
  }
  return checkpoint;
}

std::unique_ptr<LRScheduler> scheduler_of(const FinetuneOptions& options, Optimizer& optimizer, int64_t max_steps) {
  const auto type = from_options([&] { return scheduler_type_from_name(options.lr_schedule); });
  return from_options([&] { return get_scheduler(type, optimizer, scheduler_options(options, type, max_steps)); });
}

TrainerCallbacks callbacks_for(const FinetuneOptions& options, Learner& learner, TrainingLogFile& log) {
  TrainerCallbacks callbacks;
  callbacks.on_step = [&log](const TrainingLog& step) {
    log.add(step);
    return !interrupted();
  };
  callbacks.on_evaluate = [&](const Metrics& metrics, const TrainerState& state) {
    log.add_evaluation(state.global_step, metrics);
    return !interrupted();
  };
  callbacks.write_model = [&](const std::string& folder) { write_model(learner, options, folder); };
  callbacks.read_model = model_reader(learner.trained());
  return callbacks;
}

/// Writes the model without anything that only training needs. Only rank 0 calls it.
void write_result(const FinetuneOptions& options, Learner& learner, const ExponentialMovingAverage* average) {
  std::optional<AveragedWeights> averaged;
  if (average != nullptr) {
    averaged.emplace(*average);
  }
  learner.trained().eval();
  if (options.merge) {
    learner.adapters->merge_and_unload();
    learner.adapters = nullptr;
  }
  write_model(learner, options, options.output);
}

/// What one run of training works with.
struct Run {
  const FinetuneOptions& options;
  Learner& learner;
  Trainer& trainer;
  BatchLoader& data;
  TrainingLogFile& log;
  const ExponentialMovingAverage* average;  // null: there is none
  bool leads;                               // whether this process writes files and messages
};

/// Returns the checkpoint of the run's last step, writing it unless it exists; empty if it cannot be written.
std::string keep_training(const Run& run) {
  const auto folder = last_checkpoint(run.options.output);
  if (folder.ends_with("checkpoint-" + std::to_string(run.trainer.steps_done()))) {
    return folder;
  }
  if (run.options.merge && !run.learner.adapters) {
    return {};  // merged already
  }
  try {
    return run.trainer.save_checkpoint_alone(run.data);
  } catch (const std::exception&) {
    return {};  // the error that stopped the run is the one to report
  }
}

void tell_what_is_kept(const std::string& checkpoint) {
  if (!checkpoint.empty()) {
    inform("the training so far is saved in " + checkpoint + "; --resume continues from it");
  }
}

/// Evaluates and writes the trained model. Only rank 0 calls it.
void finish(const Run& run) {
  const auto& options = run.options;
  if (!options.eval_file.empty() && options.eval_steps == 0) {
    run.log.add_evaluation(run.trainer.steps_done(), run.trainer.evaluate());
  }
  if (!options.merge) {
    return write_result(options, run.learner, run.average);
  }
  // Merging uses the adapters up, so the run keeps a checkpoint until the result is written.
  const auto before = last_checkpoint(options.output), kept = keep_training(run);
  write_result(options, run.learner, run.average);
  if (kept != before) {
    fs::remove_all(kept);
  }
}

/// Trains to the end and writes the result. Ctrl-C, SIGTERM and errors end the run earlier and leave a checkpoint.
void complete(const Run& run) {
  try {
    run.trainer.train(run.data);
    if (!run.trainer.is_finished()) {
      inform("stopped; --resume continues from " + run.trainer.save_checkpoint(run.data));
      throw CLI::RuntimeError(interrupt_status());
    }
    if (run.leads) {
      finish(run);
    }
  } catch (const CLI::RuntimeError&) {
    throw;
  } catch (...) {
    if (run.leads && run.trainer.steps_done() > 0) {
      tell_what_is_kept(keep_training(run));
    }
    throw;
  }
}

void train(const FinetuneOptions& options, Learner& learner, const std::optional<ProcessGroup>& group,
           const std::string& checkpoint) {
  const auto checked = training_data(options, *learner.model, learner.task);
  BatchLoader data(checked.dataset, collator_for(*learner.model), loader_options(options, group));
  const auto max_steps =
      options.max_steps.value_or(steps_of_epochs(options.epochs, data, options.gradient_accumulation_steps));
  const auto optimizer = optimizer_of(options, learner.trained());
  const auto scheduler = scheduler_of(options, *optimizer, max_steps);
  std::optional<ExponentialMovingAverage> average;
  if (options.ema_decay) {
    average.emplace(learner.trained(), *options.ema_decay);
  }
  EarlyStoppingCallback stopping(options.early_stopping_patience.value_or(1), options.early_stopping_threshold);
  auto arguments = arguments_of(options, max_steps, checked.checksum);
  arguments.process_group = group;
  arguments.evaluation = evaluation_of(options, *learner.model, learner.task);
  arguments.average = average ? &*average : nullptr;
  arguments.early_stopping = options.early_stopping_patience ? &stopping : nullptr;
  TrainingLogFile log(leads(group) ? options.log_file : "", leads(group) ? options.tensorboard : "", max_steps);
  Trainer trainer(learner.trained(), learner.task, *optimizer, *scheduler, std::move(arguments),
                  callbacks_for(options, learner, log));
  seed(options.model);  // so that dropout draws the same numbers, however many were drawn while building and loading
  if (!checkpoint.empty()) {
    trainer.resume(checkpoint, data);
  }
  log.begin_after(trainer.steps_done());
  watch_for_end();
  complete({.options = options,
            .learner = learner,
            .trainer = trainer,
            .data = data,
            .log = log,
            .average = average ? &*average : nullptr,
            .leads = leads(group)});
}

/// An adapter in the folder of a full model would be taken for an adapter of that model.
void check_output_folder(const FinetuneOptions& options) {
  const auto& output = options.output;
  const bool holds_model = file_exists(output + "/config.json");
  std::error_code ignored;
  TORCH_CHECK(
      options.lora_r == 0 || options.merge || !holds_model || fs::equivalent(output, options.model.model, ignored),
      output,
      ": holds a full model (config.json); an adapter goes into a folder of its own or into that of "
      "the model it was trained on");
}

void finetune(FinetuneOptions options) {
  check_options(options);
  check_output_folder(options);
  options.model.seed = options.model.seed.value_or(42);
  keep_freed_memory();
  apply(options.model);
  const auto group = join_ranks(options);
  set_quiet(is_quiet() || !leads(group));
  std::optional<FolderLock> lock;
  const auto take_folder = [&] {
    if (leads(group)) {
      fs::create_directory(options.output);
      lock.emplace(options.output);
    }
  };
  group ? together(*group, take_folder) : take_folder();
  const auto checkpoint = checkpoint_to_resume(options, group);
  auto learner = load_learner(options, checkpoint);
  train(options, learner, group, checkpoint);
}

}  // namespace

void add_finetune(CLI::App& app) {
  auto* command = app.add_subcommand("finetune", "Train a model folder further on a text, JSON lines or ids");
  auto options = std::make_shared<FinetuneOptions>();
  add_model_options(*command, options->model);
  add_quantize_option(*command, options->model);
  add_finetune_options(*command, *options);
  command->footer(
      "Example: transformers-cpp finetune --model models/SmolLM2-135M --train-file book.txt --output tuned");
  command->callback([options] { finetune(*options); });
}

}  // namespace transformers::cli
