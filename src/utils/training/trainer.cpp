// The training loop, with the arguments of HF's `Trainer`: one step is accumulation over micro-batches, clipping,
// optimizer and schedule. An error before the optimizer's step leaves parameters and data as after the step before.
#include <ATen/ATen.h>
#include <c10/util/ScopeExit.h>
#include <transformers/utils/optim/parameter_groups.h>
#include <transformers/utils/training/neftune.h>
#include <transformers/utils/training/trainer.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "utils/training/autocast_region.h"
#include "utils/training/checkpoints.h"
#include "utils/training/internal/model_files.h"

namespace transformers {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int64_t tokens_of(const std::vector<Batch>& batches) {
  int64_t tokens = 0;
  for (const auto& batch : batches) {
    tokens += batch.at("input_ids").numel();
  }
  return tokens;
}

std::string list_after(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) {
    text += ", " + name;
  }
  return text;
}

std::string list(const std::vector<int64_t>& numbers) {
  std::string text;
  for (const auto number : numbers) {
    text += (text.empty() ? "" : ", ") + std::to_string(number);
  }
  return text;
}

/// names: the known ones; if empty, the first evaluation decides.
void check_metric(const std::string& metric, const std::vector<std::string>& names) {
  const auto bare = metric.starts_with("eval_") ? metric.substr(5) : metric;
  TORCH_CHECK(names.empty() || bare == "loss" || std::count(names.begin(), names.end(), bare) > 0,
              "metric_for_best_model is \"", metric, "\", the evaluation gives loss", list_after(names));
}

void check_evaluation(const TrainingArguments& arguments, const TrainerCallbacks& callbacks) {
  const auto saves = arguments.save_steps, evaluates = arguments.eval_steps;
  TORCH_CHECK(evaluates >= 0 && (evaluates == 0 || arguments.evaluation), "Trainer: eval_steps of ", evaluates,
              " needs an evaluation");
  TORCH_CHECK(evaluates > 0 || arguments.early_stopping == nullptr, "Trainer: early_stopping needs eval_steps");
  if (arguments.load_best_model_at_end) {
    TORCH_CHECK(evaluates > 0 && saves > 0 && saves % evaluates == 0,
                "Trainer: load_best_model_at_end needs save_steps to be a multiple of eval_steps, got ", saves, " and ",
                evaluates);
    TORCH_CHECK(callbacks.read_model, "Trainer: load_best_model_at_end needs the callback read_model");
  }
  if (evaluates > 0) {
    check_metric(arguments.metric_for_best_model, arguments.evaluation->metric_names);
  }
}

void check_step_in_backward(const TrainingArguments& arguments, const torch::optim::Optimizer& optimizer) {
  TORCH_CHECK(dynamic_cast<const Optimizer*>(&optimizer) != nullptr,
              "Trainer: step_in_backward needs an optimizer of this library, one of torch::optim steps all at once");
  TORCH_CHECK(arguments.max_grad_norm <= 0, "Trainer: step_in_backward needs max_grad_norm 0, got ",
              arguments.max_grad_norm);
  TORCH_CHECK(arguments.gradient_accumulation_steps == 1,
              "Trainer: step_in_backward needs gradient_accumulation_steps 1, got ",
              arguments.gradient_accumulation_steps);
  TORCH_CHECK(arguments.autocast != Autocast::kFloat16, "Trainer: step_in_backward does not go with float16's scaler");
  TORCH_CHECK(!arguments.process_group, "Trainer: step_in_backward does not go with a process_group");
}

void check(const TrainingTask& task, const TrainingArguments& arguments, const TrainerCallbacks& callbacks,
           const torch::optim::Optimizer& optimizer) {
  TORCH_CHECK(task.count_items && task.loss, "Trainer: the task needs count_items and loss");
  TORCH_CHECK(arguments.max_steps > 0, "Trainer: max_steps must be positive, got ", arguments.max_steps);
  TORCH_CHECK(arguments.gradient_accumulation_steps > 0, "Trainer: gradient_accumulation_steps must be positive, got ",
              arguments.gradient_accumulation_steps);
  TORCH_CHECK(arguments.logging_steps > 0, "Trainer: logging_steps must be positive, got ", arguments.logging_steps);
  TORCH_CHECK(arguments.save_steps == 0 || (callbacks.write_model && !arguments.output_dir.empty()),
              "Trainer: save_steps needs output_dir and the callback write_model");
  check_evaluation(arguments, callbacks);
  if (arguments.step_in_backward) {
    check_step_in_backward(arguments, optimizer);
  }
}

/// Adds noise during its lifetime, if the arguments ask for it.
std::unique_ptr<NeftuneNoise> noise_of(torch::nn::Module& model, const TrainingArguments& arguments) {
  return arguments.neftune_noise_alpha ? std::make_unique<NeftuneNoise>(model, *arguments.neftune_noise_alpha)
                                       : nullptr;
}

}  // namespace

Trainer::Trainer(torch::nn::Module& model, TrainingTask task, torch::optim::Optimizer& optimizer,
                 LRScheduler& scheduler, TrainingArguments arguments, TrainerCallbacks callbacks)
    : model_(model),
      task_(std::move(task)),
      optimizer_(optimizer),
      scheduler_(scheduler),
      arguments_(std::move(arguments)),
      callbacks_(std::move(callbacks)),
      run_(new_run_name()) {
  if (!callbacks_.write_model && !callbacks_.read_model) {
    callbacks_.write_model = model_writer(model);
    callbacks_.read_model = model_reader(model);
  }
  check(task_, arguments_, callbacks_, optimizer_);
  if (arguments_.process_group) {
    replicas_ = std::make_unique<DistributedDataParallel<torch::nn::Module>>(model.shared_from_this(),
                                                                             *arguments_.process_group);
  }
  if (arguments_.autocast == Autocast::kFloat16) {
    scaler_.emplace();
  }
}

int64_t Trainer::train(BatchLoader& data) {
  check_ranks(data);
  begin_run();
  const auto noise = noise_of(model_, arguments_);
  if (arguments_.step_in_backward) {
    in_backward_ = std::make_unique<StepInBackward>(dynamic_cast<Optimizer&>(optimizer_));
  }
  const auto end_of_hooks = c10::make_scope_exit([this] { in_backward_.reset(); });
  model_.train();
  bool goes_on = true;
  stopped_early_ = false;
  while (goes_on && !is_finished()) {
    const auto log = train_step(data);
    const bool wanted = !callbacks_.on_step || callbacks_.on_step(log);
    goes_on = all_go_on(log_step(log) && wanted) && after_step(data);
  }
  if (is_finished() && arguments_.load_best_model_at_end) {
    load_best_model();
  }
  return state_.global_step;
}

TrainingLog Trainer::train_step(BatchLoader& data) {
  const auto position = data.position();
  try {
    return take_step(data);
  } catch (...) {
    if (!in_step_) {
      optimizer_.zero_grad();
      data.seek(position);
    }
    throw;
  }
}

TrainingLog Trainer::take_step(BatchLoader& data) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<Batch> batches;
  for (int64_t i = 0; i < arguments_.gradient_accumulation_steps; ++i) {
    batches.push_back(data.next());
  }
  TrainingLog log{.step = state_.global_step + 1, .learning_rate = scheduler_.get_last_lr().front()};
  optimizer_.zero_grad();
  const auto counted = count_items(batches, data);
  if (counted > 0) {
    log.loss = backward(batches, counted, data);
  }
  in_step_ = true;
  if (counted > 0) {
    log.grad_norm = update_parameters();
  }
  if (!scheduler_.follows_metric() || arguments_.eval_steps == 0) {
    scheduler_.step(log.loss);
  }
  optimizer_.zero_grad();
  if (arguments_.average != nullptr) {
    arguments_.average->update();
  }
  ++state_.global_step;
  in_step_ = false;
  log.epoch = static_cast<double>(data.position() * data.global_batch_size()) / static_cast<double>(data.size());
  log.tokens_per_second = static_cast<double>(tokens_of(batches)) / seconds_since(start);
  return log;
}

double Trainer::count_items(const std::vector<Batch>& batches, const BatchLoader& data) const {
  int64_t counted = 0;
  for (const auto& batch : batches) {
    counted += task_.count_items(batch);
  }
  const auto num_items = over_ranks(static_cast<double>(counted), ReduceOp::kSum);
  if (num_items == 0) {
    std::vector<int64_t> samples;
    for (auto place = data.position() - static_cast<int64_t>(batches.size()); place < data.position(); ++place) {
      const auto more = data.sample_indices(place);
      samples.insert(samples.end(), more.begin(), more.end());
    }
    TORCH_WARN("step ", state_.global_step + 1, " learns nothing: no label counts in samples ", list(samples),
               " of the data (counted from 0)");
  }
  return num_items;
}

double Trainer::backward(const std::vector<Batch>& batches, double num_items, const BatchLoader& data) {
  // Gradients become the mean over the ranks, so each rank's share counts as many times as there are ranks.
  const auto share = replicas_ ? num_items / static_cast<double>(arguments_.process_group->size()) : num_items;
  double total = 0;
  for (size_t i = 0; i < batches.size(); ++i) {
    const auto place = data.position() - static_cast<int64_t>(batches.size() - i);
    if (replicas_ && i + 1 < batches.size()) {
      const auto unsynchronised = replicas_->no_sync();
      total += backward(batches[i], share, place, data);
    } else {
      total += backward(batches[i], share, place, data);
    }
  }
  return over_ranks(total, ReduceOp::kAverage);
}

double Trainer::backward(const Batch& batch, double num_items, int64_t place, const BatchLoader& data) {
  const auto loss = replicas_ ? replicas_->run([&](torch::nn::Module&) { return loss_of(batch, num_items); })
                              : loss_of(batch, num_items);
  const auto value = loss.item<double>();
  TORCH_CHECK(std::isfinite(value), "step ", state_.global_step + 1, ": the loss is ", value, " on samples ",
              list(data.sample_indices(place)), " of the data (counted from 0)");
  in_step_ = in_backward_ != nullptr;
  (scaler_ ? scaler_->scale(loss) : loss).backward();
  return value;
}

double Trainer::over_ranks(double value, ReduceOp op) const {
  if (!replicas_) {
    return value;
  }
  const auto& group = *arguments_.process_group;
  const auto tensor = at::full({1}, value, at::TensorOptions(at::kDouble).device(group.device()));
  group.all_reduce(tensor, op).wait();
  return tensor.item<double>();
}

at::Tensor Trainer::loss_of(const Batch& batch, double num_items) const {
  const AutocastRegion region(model_, arguments_.autocast);
  return task_.loss(batch, num_items);
}

double Trainer::update_parameters() {
  if (in_backward_) {
    return in_backward_->take_grad_norm().item<double>();
  }
  if (scaler_) {
    scaler_->unscale_(optimizer_);
  }
  const auto norm = clip_grad_norm_(all_parameters(optimizer_), arguments_.max_grad_norm);
  if (scaler_) {
    scaler_->step(optimizer_);
    scaler_->update();
  } else {
    optimizer_.step();
  }
  return norm.item<double>();
}

int64_t steps_of_epochs(double epochs, const BatchLoader& data, int64_t gradient_accumulation_steps) {
  TORCH_CHECK(epochs > 0, "the number of epochs must be positive, got ", epochs);
  const auto samples_a_step = data.global_batch_size() * gradient_accumulation_steps;
  return static_cast<int64_t>(
      std::ceil(epochs * static_cast<double>(data.size()) / static_cast<double>(samples_a_step)));
}

}  // namespace transformers
