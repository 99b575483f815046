#include <transformers/utils/distributed/together.h>
#include <transformers/utils/training/trainer.h>

#include <filesystem>

#include "utils/training/checkpoints.h"
#include "utils/training/numbers.h"
#include "utils/training/training_state.h"

namespace transformers {
namespace {

/// The step in the name of a checkpoint, 0 for none.
double step_of(const std::string& checkpoint) {
  return checkpoint.empty() ? 0 : std::stod(checkpoint.substr(checkpoint.rfind('-') + 1));
}

void insert(StateDict& state, const char* name, const std::vector<double>& numbers) {
  state.insert(name, to_tensor(numbers));
}

int64_t integer_of(const StateDict& state, const char* name) { return static_cast<int64_t>(number_of(state, name)); }

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
  TrainingState state{.settings = settings(data)};
  auto& progress = state.tensors["progress"];
  insert(progress, "step", {static_cast<double>(state_.global_step)});
  insert(progress, "position", {static_cast<double>(data.position())});
  insert(progress, "best_metric", state_.best_metric ? std::vector{*state_.best_metric} : std::vector<double>{});
  insert(progress, "best_step", {static_cast<double>(state_.best_global_step)});
  insert(progress, "best_saved_step", {step_of(state_.best_model_checkpoint)});
  insert(progress, "logged", {static_cast<double>(logged_steps_), logged_loss_, logged_tokens_per_second_});
  state.tensors["optimizer"] = optimizer_.state_dict();
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
  return state;
}

bool Trainer::writes() const { return !replicas_ || arguments_.process_group->rank() == 0; }

std::string Trainer::save_checkpoint(const BatchLoader& data) {
  TORCH_CHECK(callbacks_.write_model && !arguments_.output_dir.empty(),
              "Trainer: a checkpoint needs output_dir and the callback write_model");
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
  replicas_ ? together(*arguments_.process_group, write) : write();
  return folder;
}

void Trainer::resume(const std::string& checkpoint, BatchLoader& data) {
  const auto state = load_training_state(checkpoint, settings(data));
  const auto& progress = state.tensors.at("progress");
  const auto step = integer_of(progress, "step"), position = integer_of(progress, "position");
  const auto best_step = integer_of(progress, "best_step"), saved_step = integer_of(progress, "best_saved_step");
  const auto best_metric = numbers_of(progress, "best_metric");
  const auto logged = numbers_of(progress, "logged", 3);
  if (arguments_.average != nullptr) {
    arguments_.average->load_state_dict(state.tensors.at("average"));
  }
  if (arguments_.early_stopping != nullptr) {
    arguments_.early_stopping->load_state_dict(state.tensors.at("early_stopping"));
  }
  optimizer_.load_state_dict(state.tensors.at("optimizer"));
  scheduler_.load_state_dict(state.tensors.at("scheduler"));
  if (scaler_) {
    scaler_->load_state_dict(state.tensors.at("scaler"));
  }
  state_ = {.global_step = step, .best_global_step = best_step};
  if (!best_metric.empty()) {
    state_.best_metric = best_metric.front();
  }
  if (const auto best = checkpoint_folder(arguments_.output_dir, saved_step);
      saved_step > 0 && std::filesystem::exists(best)) {
    state_.best_model_checkpoint = best;
  }
  logged_steps_ = static_cast<int64_t>(logged[0]);
  logged_loss_ = logged[1];
  logged_tokens_per_second_ = logged[2];
  data.seek(position);
  restore_random_numbers(state);
}

std::string last_checkpoint(const std::string& output_dir) {
  const auto steps = checkpoint_steps(output_dir);
  return steps.empty() ? "" : checkpoint_folder(output_dir, steps.back());
}

}  // namespace transformers
