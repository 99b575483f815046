#include <transformers/utils/training/trainer.h>

#include <limits>
#include <utility>

#include "utils/training/checkpoints.h"
#include "utils/training/training_state.h"

namespace transformers {
namespace {

bool is_due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

double metric_of(const Metrics& metrics, const std::string& name) {
  const auto found = metrics.find(name.starts_with("eval_") ? name : "eval_" + name);
  if (found != metrics.end()) {
    return found->second;
  }
  std::string names;
  for (const auto& [other, value] : metrics) {
    names += (names.empty() ? "" : ", ") + other;
  }
  TORCH_CHECK(false, "metric_for_best_model is \"", name, "\", the evaluation gives ", names);
}

}  // namespace

Metrics Trainer::evaluate() {
  TORCH_CHECK(arguments_.evaluation, "Trainer: there is no evaluation");
  std::optional<AveragedWeights> averaged;
  if (arguments_.average != nullptr) {
    averaged.emplace(*arguments_.average);
  }
  return transformers::evaluate(model_, task_, *arguments_.evaluation, arguments_.autocast);
}

bool Trainer::log_step(const TrainingLog& log) {
  ++logged_steps_;
  logged_loss_ += log.loss;
  logged_tokens_per_second_ += log.tokens_per_second;
  if (!is_due(log.step, arguments_.logging_steps) && log.step != arguments_.max_steps) {
    return true;
  }
  auto mean = log;
  const auto steps = static_cast<double>(std::exchange(logged_steps_, 0));
  mean.loss = std::exchange(logged_loss_, 0) / steps;
  mean.tokens_per_second = std::exchange(logged_tokens_per_second_, 0) / steps;
  return !callbacks_.on_log || callbacks_.on_log(mean);
}

/// Does the evaluation and the checkpoint that are due; returns whether the callbacks want to continue.
bool Trainer::after_step(BatchLoader& data) {
  const auto step = state_.global_step;
  const bool is_last = step == arguments_.max_steps;
  const bool evaluates = is_due(step, arguments_.eval_steps) || (is_last && arguments_.eval_steps > 0);
  const bool saves = is_due(step, arguments_.save_steps) || (is_last && arguments_.load_best_model_at_end);
  if (!evaluates && !saves) {
    return true;
  }
  bool goes_on = !evaluates || evaluate_step();
  if (saves) {
    const auto folder = save_checkpoint(data);
    goes_on = (!callbacks_.on_save || callbacks_.on_save(folder)) && goes_on;
  }
  return all_go_on(goes_on);
}

bool Trainer::greater_is_better() const {
  const auto& metric = arguments_.metric_for_best_model;
  return arguments_.greater_is_better.value_or(!metric.ends_with("loss") && !metric.ends_with("perplexity"));
}

bool Trainer::is_better(double metric) const {
  constexpr auto kInfinity = std::numeric_limits<double>::infinity();
  return greater_is_better() ? metric > state_.best_metric.value_or(-kInfinity)
                             : metric < state_.best_metric.value_or(kInfinity);
}

bool Trainer::evaluate_step() {
  const auto metrics = evaluate();
  const auto metric = metric_of(metrics, arguments_.metric_for_best_model);
  if (scheduler_.follows_metric()) {
    scheduler_.step(metric);
  }
  if (arguments_.early_stopping != nullptr) {
    stopped_early_ = !arguments_.early_stopping->on_evaluate(metric, state_.best_metric, greater_is_better());
  }
  if (is_better(metric)) {
    state_.best_metric = metric;
    state_.best_global_step = state_.global_step;
  }
  return !callbacks_.on_evaluate || callbacks_.on_evaluate(metrics, state_);
}

void Trainer::load_best_model() {
  if (state_.best_model_checkpoint.empty()) {
    return;
  }
  callbacks_.read_model(state_.best_model_checkpoint);
  if (arguments_.average != nullptr) {
    const auto state = load_training_state(state_.best_model_checkpoint);
    arguments_.average->load_state_dict(state.tensors.at("average"));
  }
  // If only one checkpoint is kept, it is the best one.
  if (arguments_.save_total_limit == 1 && writes()) {
    rotate_checkpoints(arguments_.output_dir, 1, "", state_.best_model_checkpoint);
  }
}

}  // namespace transformers
