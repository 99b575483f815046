#include <ATen/ATen.h>
#include <transformers/utils/data/data_collator.h>
#include <transformers/utils/modeling/losses.h>
#include <transformers/utils/training/distillation.h>

namespace transformers {
namespace {

void check(const DistillationOptions& options) {
  TORCH_CHECK(options.temperature > 0, "distillation: temperature must be positive, got ", options.temperature);
  TORCH_CHECK(options.alpha >= 0 && options.alpha <= 1, "distillation: alpha must lie in [0, 1], got ", options.alpha);
}

at::Tensor logits_of(CausalLM& model, const Batch& batch) {
  ModelInputs inputs{.use_cache = false};
  const std::map<std::string, at::Tensor*> fields{{"input_ids", &inputs.input_ids},
                                                  {"attention_mask", &inputs.attention_mask},
                                                  {"position_ids", &inputs.position_ids}};
  for (const auto& [name, tensor] : batch) {
    if (const auto field = fields.find(name); field != fields.end()) {
      *field->second = tensor.to(model.device());
    } else {
      TORCH_CHECK(name == "labels", "distillation batch: the models take no \"", name, "\"");
    }
  }
  return model.forward(inputs).logits;
}

}  // namespace

at::Tensor distillation_loss(const at::Tensor& student_logits, const at::Tensor& teacher_logits,
                             const at::Tensor& labels, const DistillationOptions& options,
                             std::optional<double> num_items) {
  check(options);
  TORCH_CHECK(student_logits.dim() == 3 && student_logits.sizes() == teacher_logits.sizes(),
              "distillation: teacher and student need logits of one shape [batch, seq, vocab], got ",
              teacher_logits.sizes(), " and ", student_logits.sizes());
  const auto targets = next_token_labels({.labels = labels}).to(student_logits.device());
  TORCH_CHECK(targets.sizes() == student_logits.sizes().slice(0, 2), "distillation: labels must be [batch, seq], got ",
              labels.sizes());
  const auto rows = targets.reshape({-1}).ne(kIgnoreIndex).nonzero().squeeze(1);
  const auto student = student_logits.flatten(0, 1).index_select(0, rows).to(at::kFloat);
  const auto teacher =
      teacher_logits.detach().to(student_logits.device()).flatten(0, 1).index_select(0, rows).to(at::kFloat);
  const double t = options.temperature;
  const auto divergence = at::kl_div(at::log_softmax(student / t, -1), at::log_softmax(teacher / t, -1),
                                     at::Reduction::Sum, /*log_target=*/true);
  const auto cross_entropy =
      at::cross_entropy_loss(student, targets.reshape({-1}).index_select(0, rows), {}, at::Reduction::Sum);
  const auto sum = options.alpha * t * t * divergence + (1 - options.alpha) * cross_entropy;
  return sum / num_items.value_or(static_cast<double>(rows.size(0)));
}

TrainingTask distillation_task(CausalLM& student, CausalLM& teacher, const DistillationOptions& options) {
  check(options);
  return {.count_items = count_items, .loss = [&student, &teacher, options](const Batch& batch, double num_items) {
            at::Tensor taught;
            {
              const at::NoGradGuard no_grad;
              teacher.eval();
              taught = logits_of(teacher, batch);
            }
            const auto labels = batch.at("labels").to(student.device());
            return distillation_loss(logits_of(student, batch), taught, labels, options, num_items);
          }};
}

}  // namespace transformers
