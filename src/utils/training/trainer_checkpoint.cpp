// Saves and resumes a Trainer: the state of all its parts as named tensors, the settings that a resumed run must share,
// and the checks of every number before the run continues by it.
#include <ATen/ATen.h>
#include <torch/serialize/archive.h>
#include <transformers/utils/distributed/together.h>
#include <transformers/utils/training/trainer.h>

#include <cmath>
#include <filesystem>
#include <sstream>

#include "utils/optim/internal/numbers.h"
#include "utils/training/checkpoints.h"
#include "utils/training/training_state.h"

namespace transformers {
namespace {

/// The step in the name of a checkpoint, 0 for none.
double step_of(const std::string& checkpoint) {
  return checkpoint.empty() ? 0 : std::stod(checkpoint.substr(checkpoint.rfind('-') + 1));
}

constexpr const char* kArchive = "archive";
constexpr const char* kGradientOrder = "gradient_order";

/// Empty in a checkpoint of a single process.
std::vector<int64_t> gradient_order_of(const StateDict& replicas) {
  const auto* order = replicas.find(kGradientOrder);
  if (order == nullptr) {
    return {};
  }
  TORCH_CHECK(order->scalar_type() == at::kLong && order->dim() == 1, "training state: \"replicas.", kGradientOrder,
              "\" must be a list of 64-bit integers, found ", order->scalar_type(), " of shape ", order->sizes());
  const auto values = order->contiguous();
  return {values.const_data_ptr<int64_t>(), values.const_data_ptr<int64_t>() + values.numel()};
}

void insert(StateDict& state, const char* name, const std::vector<double>& numbers) {
  state.insert(name, to_tensor(numbers));
}

}  // namespace

std::map<std::string, std::string> Trainer::settings(const BatchLoader& data) const {
  auto settings = arguments_.settings;
  const auto& average = arguments_.average;
  settings["samples"] = std::to_string(data.size());
  settings["global_batch_size"] = std::to_string(data.global_batch_size());
  settings["gradient_accumulation_steps"] = std::to_string(arguments_.gradient_accumulation_steps);
  settings["max_grad_norm"] = std::to_string(arguments_.max_grad_norm);
  settings["autocast"] = std::to_string(static_cast<int>(arguments_.autocast));
  settings["neftune_noise_alpha"] = std::to_string(arguments_.neftune_noise_alpha.value_or(0));
  settings["average_decay"] = average == nullptr ? "none" : std::to_string(average->decay());
  settings["metric_for_best_model"] = arguments_.metric_for_best_model;
  return settings;
}

TrainingState Trainer::training_state(const BatchLoader& data) const {
  TrainingState state{.run = run_, .settings = settings(data)};
  auto& progress = state.tensors["progress"];
  insert(progress, "max_steps", {static_cast<double>(arguments_.max_steps)});
  insert(progress, "step", {static_cast<double>(state_.global_step)});
  insert(progress, "position", {static_cast<double>(data.position())});
  insert(progress, "best_metric", state_.best_metric ? std::vector{*state_.best_metric} : std::vector<double>{});
  insert(progress, "best_step", {static_cast<double>(state_.best_global_step)});
  insert(progress, "best_saved_step", {step_of(state_.best_model_checkpoint)});
  insert(progress, "logged", {static_cast<double>(logged_steps_), logged_loss_, logged_tokens_per_second_});
  state.tensors["optimizer"] = optimizer_state();
  state.tensors["scheduler"] = scheduler_.state_dict();
  if (scaler_) {
    state.tensors["scaler"] = scaler_->state_dict();
  }
  if (arguments_.average != nullptr) {
    state.tensors["average"] = arguments_.average->state_dict();
  }
  if (arguments_.early_stopping != nullptr) {
    state.tensors["early_stopping"] = arguments_.early_stopping->state_dict();
  }
  if (replicas_) {
    state.tensors["replicas"].insert(kGradientOrder, at::tensor(replicas_->gradient_order(), at::kLong));
  }
  return state;
}

bool Trainer::writes() const { return !replicas_ || arguments_.process_group->rank() == 0; }

StateDict Trainer::optimizer_state() const {
  if (const auto* own = dynamic_cast<const Optimizer*>(&optimizer_)) {
    return own->state_dict();
  }
  // The optimizers of torch::optim can only write archives.
  torch::serialize::OutputArchive archive;
  optimizer_.save(archive);
  std::ostringstream stream;
  archive.save_to(stream);
  const auto bytes = stream.str();
  StateDict state;
  state.insert(kArchive,
               at::from_blob(const_cast<char*>(bytes.data()), {static_cast<int64_t>(bytes.size())}, at::kByte).clone());
  return state;
}

void Trainer::load_optimizer_state(const StateDict& state) {
  if (auto* own = dynamic_cast<Optimizer*>(&optimizer_)) {
    own->load_state_dict(state);
    return;
  }
  const auto* bytes = state.find(kArchive);
  TORCH_CHECK(bytes != nullptr && bytes->scalar_type() == at::kByte && bytes->dim() == 1,
              "training state: \"optimizer.", kArchive, "\" must be bytes, as an optimizer of torch::optim saves them");
  const auto all = bytes->contiguous();
  torch::serialize::InputArchive archive;
  archive.load_from(static_cast<const char*>(all.const_data_ptr()), static_cast<size_t>(all.numel()));
  optimizer_.load(archive);
}

std::string Trainer::write_checkpoint_folder(const BatchLoader& data, bool together_with_ranks) {
  TORCH_CHECK(callbacks_.write_model && !arguments_.output_dir.empty(),
              "Trainer: a checkpoint needs output_dir and the callback write_model");
  TORCH_CHECK(!in_step_, "Trainer: an error in the middle of step ", state_.global_step + 1,
              " has left parameters that are of no step");
  const auto folder = checkpoint_folder(arguments_.output_dir, state_.global_step);
  if (state_.best_global_step == state_.global_step) {
    state_.best_model_checkpoint = folder;
  }
  const auto write = [&] {
    if (writes()) {
      write_checkpoint(folder, [&](const std::string& made) {
        callbacks_.write_model(made);
        save_training_state(made, training_state(data));
      });
      rotate_checkpoints(arguments_.output_dir, arguments_.save_total_limit, folder,
                         arguments_.load_best_model_at_end ? state_.best_model_checkpoint : "");
    }
  };
  if (replicas_ && together_with_ranks) {
    together(*arguments_.process_group, write);
  } else {
    write();
  }
  return folder;
}

std::string Trainer::save_checkpoint(const BatchLoader& data) {
  return write_checkpoint_folder(data, /*together_with_ranks=*/true);
}

std::string Trainer::save_checkpoint_alone(const BatchLoader& data) {
  return write_checkpoint_folder(data, /*together_with_ranks=*/false);
}

void Trainer::begin_run() const {
  if (!arguments_.output_dir.empty() && writes() && std::filesystem::is_directory(arguments_.output_dir)) {
    note_run(arguments_.output_dir, run_);
  }
}

/// Numbers of a file determine how long the loop runs and where in the data it continues.
void Trainer::check_step(const StateDict& progress) const {
  const auto step = whole_number_of(progress, "step");
  const auto most = progress.contains("max_steps") ? whole_number_of(progress, "max_steps") : arguments_.max_steps;
  TORCH_CHECK(step <= most, "training state: \"progress.step\" is ", step, ", the run was to have ", most, " steps");
  TORCH_CHECK(arguments_.max_steps >= most, "the run was saved with max_steps ", most, " and cannot go on with ",
              arguments_.max_steps);
}

/// data: at its position when the run began, or already at that of the checkpoint.
void Trainer::check_progress(const StateDict& progress, const BatchLoader& data) const {
  const auto step = whole_number_of(progress, "step"), position = whole_number_of(progress, "position");
  const auto accumulated = arguments_.gradient_accumulation_steps;
  TORCH_CHECK(position == data.position() || position == data.position() + step * accumulated,
              "training state: \"progress.position\" must be that of the batch after ", step, " steps of ", accumulated,
              " from ", data.position(), " on, found ", position);
  for (const auto* name : {"best_step", "best_saved_step"}) {
    TORCH_CHECK(whole_number_of(progress, name) <= step, "training state: \"progress.", name, "\" is ",
                whole_number_of(progress, name), ", the run was saved after ", step, " steps");
  }
  TORCH_CHECK(numbers_of(progress, "best_metric").size() <= 1,
              "training state: \"progress.best_metric\" must be one number or none");
  const auto logged = numbers_of(progress, "logged", 3);
  TORCH_CHECK(std::isfinite(logged[1]) && std::isfinite(logged[2]) && logged[0] >= 0 &&
                  logged[0] <= static_cast<double>(step) && logged[0] == std::floor(logged[0]),
              "training state: \"progress.logged\" must be a number of steps up to ", step,
              " and two finite sums, found ", logged[0], ", ", logged[1], " and ", logged[2]);
}

void Trainer::load_parts(const TrainingState& state) {
  if (arguments_.average != nullptr) {
    arguments_.average->load_state_dict(state.tensors.at("average"));
  }
  if (arguments_.early_stopping != nullptr) {
    arguments_.early_stopping->load_state_dict(state.tensors.at("early_stopping"));
  }
  load_optimizer_state(state.tensors.at("optimizer"));
  scheduler_.load_state_dict(state.tensors.at("scheduler"));
  if (scaler_) {
    scaler_->load_state_dict(state.tensors.at("scaler"));
  }
  if (replicas_) {
    replicas_->set_gradient_order(gradient_order_of(state.tensors.at("replicas")));
  }
}

void Trainer::resume(const std::string& checkpoint, BatchLoader& data) {
  auto state = load_training_state(checkpoint);
  const auto& progress = state.tensors.at("progress");
  try {
    check_step(progress);
    check_settings(state, settings(data));
    check_progress(progress, data);
    load_parts(state);
    restore_random_numbers(state);
  } catch (const c10::Error& error) {
    TORCH_CHECK(false, training_state_path(checkpoint), ": ", error.what_without_backtrace());
  }
  state_ = {.global_step = whole_number_of(progress, "step"),
            .best_global_step = whole_number_of(progress, "best_step")};
  if (const auto best = numbers_of(progress, "best_metric"); !best.empty()) {
    state_.best_metric = best.front();
  }
  const auto saved_step = whole_number_of(progress, "best_saved_step");
  if (const auto best = checkpoint_folder(arguments_.output_dir, saved_step);
      saved_step > 0 && std::filesystem::exists(best)) {
    state_.best_model_checkpoint = best;
  }
  const auto logged = numbers_of(progress, "logged", 3);
  logged_steps_ = static_cast<int64_t>(logged[0]);
  logged_loss_ = logged[1];
  logged_tokens_per_second_ = logged[2];
  data.seek(whole_number_of(progress, "position"));
  run_ = state.run.empty() ? run_ : state.run;
}

std::string last_checkpoint(const std::string& output_dir) { return newest_checkpoint(output_dir); }

}  // namespace transformers
