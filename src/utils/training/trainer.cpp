#include <ATen/ATen.h>
#include <transformers/utils/nn/autocast.h>
#include <transformers/utils/training/parameter_groups.h>
#include <transformers/utils/training/trainer.h>

#include <chrono>
#include <cmath>
#include <filesystem>

#include "utils/training/training_state.h"

namespace transformers {
namespace fs = std::filesystem;
namespace {

constexpr const char* kPrefix = "checkpoint-";

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

std::string list(const std::vector<int64_t>& numbers) {
  std::string text;
  for (const auto number : numbers) {
    text += (text.empty() ? "" : ", ") + std::to_string(number);
  }
  return text;
}

void check(const TrainingTask& task, const TrainingArguments& arguments, const TrainerCallbacks& callbacks) {
  TORCH_CHECK(task.count_items && task.loss, "Trainer: the task needs count_items and loss");
  TORCH_CHECK(arguments.max_steps > 0, "Trainer: max_steps must be positive, got ", arguments.max_steps);
  TORCH_CHECK(arguments.gradient_accumulation_steps > 0, "Trainer: gradient_accumulation_steps must be positive, got ",
              arguments.gradient_accumulation_steps);
  TORCH_CHECK(arguments.save_steps == 0 || (callbacks.write_model && !arguments.output_dir.empty()),
              "Trainer: save_steps needs output_dir and the callback write_model");
}

/// Steps of the complete checkpoints of a folder, ascending.
std::vector<int64_t> checkpoints(const std::string& output_dir) {
  std::vector<int64_t> steps;
  if (fs::is_directory(output_dir)) {
    for (const auto& entry : fs::directory_iterator(output_dir)) {
      const auto name = entry.path().filename().string();
      const auto digits = name.starts_with(kPrefix) ? name.substr(std::string_view(kPrefix).size()) : "";
      const bool is_number =
          !digits.empty() && digits.size() < 18 && digits.find_first_not_of("0123456789") == std::string::npos;
      if (is_number && fs::exists(entry.path() / kTrainingStateFile)) {
        steps.push_back(std::stoll(digits));
      }
    }
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::string checkpoint_folder(const std::string& output_dir, int64_t step) {
  return (fs::path(output_dir) / (kPrefix + std::to_string(step))).string();
}

void remove_oldest(const std::string& output_dir, int64_t limit) {
  const auto steps = checkpoints(output_dir);
  for (size_t i = 0; limit > 0 && i + static_cast<size_t>(limit) < steps.size(); ++i) {
    // The state goes first: without it the folder counts as incomplete.
    const fs::path folder = checkpoint_folder(output_dir, steps[i]);
    fs::remove(folder / kTrainingStateFile);
    fs::remove_all(folder);
  }
}

}  // namespace

Trainer::Trainer(torch::nn::Module& model, TrainingTask task, Optimizer& optimizer, LRScheduler& scheduler,
                 TrainingArguments arguments, TrainerCallbacks callbacks)
    : model_(model),
      task_(std::move(task)),
      optimizer_(optimizer),
      scheduler_(scheduler),
      arguments_(std::move(arguments)),
      callbacks_(std::move(callbacks)) {
  check(task_, arguments_, callbacks_);
  if (arguments_.process_group) {
    replicas_ = std::make_unique<DistributedDataParallel<torch::nn::Module>>(model.shared_from_this(),
                                                                             *arguments_.process_group);
  }
  if (arguments_.autocast == Autocast::kFloat16) {
    scaler_.emplace();
  }
}

int64_t Trainer::train(BatchLoader& data) {
  model_.train();
  while (step_ < arguments_.max_steps) {
    const auto log = train_step(data);
    if (arguments_.save_steps > 0 && step_ % arguments_.save_steps == 0) {
      save_checkpoint(data);
    }
    const bool goes_on = !callbacks_.on_step || callbacks_.on_step(log);
    if (over_ranks(goes_on ? 1 : 0, ReduceOp::kMin) == 0) {
      break;
    }
  }
  return step_;
}

TrainingLog Trainer::train_step(BatchLoader& data) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<Batch> batches;
  for (int64_t i = 0; i < arguments_.gradient_accumulation_steps; ++i) {
    batches.push_back(data.next());
  }
  TrainingLog log{.step = step_ + 1, .learning_rate = scheduler_.get_last_lr().front()};
  optimizer_.zero_grad();
  log.loss = backward(batches, data);
  log.grad_norm = update_parameters();
  scheduler_.step(log.loss);
  optimizer_.zero_grad();
  ++step_;
  log.epoch = static_cast<double>(data.position() * data.global_batch_size()) / static_cast<double>(data.size());
  log.tokens_per_second = static_cast<double>(tokens_of(batches)) / seconds_since(start);
  return log;
}

double Trainer::backward(const std::vector<Batch>& batches, const BatchLoader& data) {
  int64_t counted = 0;
  for (const auto& batch : batches) {
    counted += task_.count_items(batch);
  }
  const auto num_items = over_ranks(static_cast<double>(counted), ReduceOp::kSum);
  TORCH_CHECK(num_items > 0, "step ", step_ + 1, ": no label of the batch counts");
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
  TORCH_CHECK(std::isfinite(value), "step ", step_ + 1, ": the loss is ", value, " on samples ",
              list(data.sample_indices(place)), " of the data (counted from 0)");
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
  std::optional<AutocastGuard> guard;
  if (arguments_.autocast != Autocast::kNone) {
    const auto dtype = arguments_.autocast == Autocast::kFloat16 ? at::kHalf : at::kBFloat16;
    guard.emplace(model_.parameters().front().device().type(), dtype);
  }
  return task_.loss(batch, num_items);
}

double Trainer::update_parameters() {
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

std::map<std::string, std::string> Trainer::settings(const BatchLoader& data) const {
  auto settings = arguments_.settings;
  settings["samples"] = std::to_string(data.size());
  settings["global_batch_size"] = std::to_string(data.global_batch_size());
  settings["gradient_accumulation_steps"] = std::to_string(arguments_.gradient_accumulation_steps);
  settings["max_grad_norm"] = std::to_string(arguments_.max_grad_norm);
  settings["autocast"] = std::to_string(static_cast<int>(arguments_.autocast));
  return settings;
}

std::string Trainer::save_checkpoint(const BatchLoader& data) {
  const auto folder = checkpoint_folder(arguments_.output_dir, step_);
  if (!replicas_ || arguments_.process_group->rank() == 0) {
    write_checkpoint(folder, data);
  }
  if (replicas_) {
    arguments_.process_group->barrier();
  }
  return folder;
}

void Trainer::write_checkpoint(const std::string& folder, const BatchLoader& data) {
  // Leftovers of a save that was cut short, or of an earlier run.
  fs::remove(fs::path(folder) / kTrainingStateFile);
  fs::remove_all(folder);
  fs::create_directories(folder);
  callbacks_.write_model(folder);
  TrainingState state{.step = step_, .position = data.position(), .settings = settings(data)};
  state.tensors.emplace("optimizer", optimizer_.state_dict());
  state.tensors.emplace("scheduler", scheduler_.state_dict());
  if (scaler_) {
    state.tensors.emplace("scaler", scaler_->state_dict());
  }
  save_training_state(folder, state);
  remove_oldest(arguments_.output_dir, arguments_.save_total_limit);
}

void Trainer::resume(const std::string& checkpoint, BatchLoader& data) {
  const auto state = load_training_state(checkpoint, settings(data));
  optimizer_.load_state_dict(state.tensors.at("optimizer"));
  scheduler_.load_state_dict(state.tensors.at("scheduler"));
  if (scaler_) {
    scaler_->load_state_dict(state.tensors.at("scaler"));
  }
  step_ = state.step;
  data.seek(state.position);
  restore_random_numbers(state);
}

int64_t steps_of_epochs(double epochs, const BatchLoader& data, int64_t gradient_accumulation_steps) {
  TORCH_CHECK(epochs > 0, "the number of epochs must be positive, got ", epochs);
  const auto samples_a_step = data.global_batch_size() * gradient_accumulation_steps;
  return static_cast<int64_t>(
      std::ceil(epochs * static_cast<double>(data.size()) / static_cast<double>(samples_a_step)));
}

std::string last_checkpoint(const std::string& output_dir) {
  const auto steps = checkpoints(output_dir);
  return steps.empty() ? "" : checkpoint_folder(output_dir, steps.back());
}

}  // namespace transformers
