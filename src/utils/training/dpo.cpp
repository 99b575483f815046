// The sigmoid loss of Rafailov et al. 2023 (Direct Preference Optimization), with the names TRL gives its parts.
#include <ATen/ATen.h>
#include <transformers/utils/modeling/losses.h>
#include <transformers/utils/training/dpo.h>

namespace transformers {
namespace {

void check(const DpoOptions& options) {
  TORCH_CHECK(options.beta > 0, "DPO: beta must be positive, got ", options.beta);
  TORCH_CHECK(options.label_smoothing >= 0 && options.label_smoothing < 0.5,
              "DPO: label_smoothing must lie in [0, 0.5), got ", options.label_smoothing);
}

const at::Tensor& entry(const Batch& batch, const std::string& name) {
  const auto found = batch.find(name);
  TORCH_CHECK(found != batch.end(), "preference batch: the task needs \"", name, "\"");
  return found->second;
}

int64_t pairs_of(const Batch& batch) {
  const auto rows = entry(batch, "input_ids").size(0);
  TORCH_CHECK(rows > 0 && rows % 2 == 0, "preference batch: as many rejected rows as chosen ones are needed, got ",
              rows, " rows in all");
  return rows / 2;
}

at::Tensor log_probs_of(CausalLM& model, const Batch& batch) {
  const auto on_device = [&](const char* name) { return entry(batch, name).to(model.device()); };
  ModelInputs inputs{.use_cache = false};
  inputs.input_ids = on_device("input_ids");
  inputs.attention_mask = on_device("attention_mask");
  return sequence_log_probs(model.forward(inputs).logits, on_device("labels"));
}

at::Tensor reference_log_probs(CausalLM& model, PeftModelImpl& adapters, const Batch& batch) {
  const at::NoGradGuard no_grad;
  const DisableAdapter off(adapters);
  const bool was_training = model.is_training();
  model.eval();
  const auto log_probs = log_probs_of(model, batch);
  model.train(was_training);
  return log_probs;
}

/// The samples' tensors whose names begin with `prefix`, without it.
std::vector<Batch> side(const std::vector<Batch>& samples, const std::string& prefix) {
  std::vector<Batch> answers;
  for (const auto& sample : samples) {
    answers.push_back(
        {{"input_ids", entry(sample, prefix + "input_ids")}, {"labels", entry(sample, prefix + "labels")}});
  }
  return answers;
}

}  // namespace

at::Tensor sequence_log_probs(const at::Tensor& logits, const at::Tensor& labels) {
  TORCH_CHECK(logits.dim() == 3 && labels.sizes() == logits.sizes().slice(0, 2),
              "sequence_log_probs: labels must be [batch, seq] of the logits' [batch, seq, vocab], got ",
              labels.sizes(), " and ", logits.sizes());
  const auto targets = next_token_labels({.labels = labels}).to(logits.device());
  const auto losses = at::cross_entropy_loss(logits.to(at::kFloat).flatten(0, 1), targets.reshape({-1}), {},
                                             at::Reduction::None, kIgnoreIndex);
  return -losses.view(targets.sizes()).sum(1);
}

DpoOutput dpo_loss(const PreferenceLogProbs& log_probs, const DpoOptions& options) {
  check(options);
  const auto chosen = log_probs.policy_chosen - log_probs.reference_chosen;
  const auto rejected = log_probs.policy_rejected - log_probs.reference_rejected;
  const auto margin = options.beta * (chosen - rejected);
  auto losses = -at::log_sigmoid(margin) * (1 - options.label_smoothing);
  if (options.label_smoothing > 0) {
    losses = losses - at::log_sigmoid(-margin) * options.label_smoothing;
  }
  return {losses, options.beta * chosen.detach(), options.beta * rejected.detach()};
}

DataCollator preference_collator(int64_t pad_token_id) {
  return [pad = padding_collator(pad_token_id)](const std::vector<Batch>& samples) {
    auto answers = side(samples, "chosen_");
    for (auto& rejected : side(samples, "rejected_")) {
      answers.push_back(std::move(rejected));
    }
    return pad(answers);
  };
}

TrainingTask dpo_task(CausalLM& model, PeftModelImpl& adapters, const DpoOptions& options) {
  check(options);
  return {.count_items = pairs_of, .loss = [&model, &adapters, options](const Batch& batch, double num_items) {
            const auto reference = reference_log_probs(model, adapters, batch).chunk(2);
            const auto policy = log_probs_of(model, batch).chunk(2);
            return dpo_loss({policy[0], policy[1], reference[0], reference[1]}, options).losses.sum() / num_items;
          }};
}

}  // namespace transformers
