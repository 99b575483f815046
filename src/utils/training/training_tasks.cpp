#include <ATen/ATen.h>
#include <transformers/utils/modeling/losses.h>
#include <transformers/utils/training/training_tasks.h>

#include <algorithm>

namespace transformers {
namespace {

/// Moves the batch to the model's device as model inputs. The caller handles the names in `labels`; other names are
/// refused.
ModelInputs inputs_of(const Batch& batch, const PreTrainedModel& model, const std::vector<std::string>& labels) {
  ModelInputs inputs{.use_cache = false};
  const std::map<std::string, at::Tensor*> fields{{"input_ids", &inputs.input_ids},
                                                  {"attention_mask", &inputs.attention_mask},
                                                  {"position_ids", &inputs.position_ids},
                                                  {"token_type_ids", &inputs.token_type_ids}};
  for (const auto& [name, tensor] : batch) {
    if (const auto field = fields.find(name); field != fields.end()) {
      *field->second = tensor.to(model.device());
    } else {
      TORCH_CHECK(std::find(labels.begin(), labels.end(), name) != labels.end(),
                  "training batch: the model takes no \"", name, "\"");
    }
  }
  return inputs;
}

at::Tensor labels_of(const Batch& batch, const std::string& name, const PreTrainedModel& model) {
  const auto found = batch.find(name);
  TORCH_CHECK(found != batch.end(), "training batch: the task needs \"", name, "\"");
  return found->second.to(model.device());
}

int64_t rows_of(const Batch& batch) { return batch.at("input_ids").size(0); }

/// Converts a mean over `items` to its contribution to a mean over `num_items`.
at::Tensor as_share(const at::Tensor& mean, int64_t items, double num_items) {
  return mean * (static_cast<double>(items) / num_items);
}

int64_t counted_labels(const Batch& batch) {
  const auto labels = batch.find("labels");
  TORCH_CHECK(labels != batch.end(), "training batch: the task needs \"labels\"");
  return labels->second.ne(kIgnoreIndex).sum().item<int64_t>();
}

/// As many rows of logits as fit into a block that glibc does not return to the system when it is freed.
int64_t fitting_chunk_rows(CausalLM& model) {
  constexpr int64_t kBytes = int64_t{24} << 20;
  const auto head = model.get_output_embeddings();
  const auto row = head->weight.size(0) * head->weight.element_size();
  return allows_chunked_loss(head) ? std::max<int64_t>(1, kBytes / row) : 0;
}

/// A task that gets loss and predictions from one call; `forward` makes a TaskOutput from a batch and `num_items`.
template <typename Forward>
TrainingTask task_of(const std::function<int64_t(const Batch& batch)>& count, Forward forward) {
  return {.count_items = count,
          .loss = [forward](const Batch& batch, double num_items) { return forward(batch, num_items).loss; },
          .predict = forward};
}

}  // namespace

TrainingTask causal_lm_task(CausalLM& model, CausalLMTaskOptions options) {
  const auto forward = [&model, options](const Batch& batch, double num_items, int64_t loss_chunk_rows) {
    const auto output = model.forward(inputs_of(batch, model, {"labels"}), {.labels = labels_of(batch, "labels", model),
                                                                            .num_items_in_batch = num_items,
                                                                            .label_smoothing = options.label_smoothing,
                                                                            .loss_chunk_rows = loss_chunk_rows});
    return TaskOutput{output.loss, {{"logits", output.logits}}};
  };
  return {.count_items = count_items,
          .loss =
              [forward, options, &model](const Batch& batch, double num_items) {
                return forward(batch, num_items, options.loss_chunk_rows.value_or(fitting_chunk_rows(model))).loss;
              },
          // A chunked loss does not keep the logits.
          .predict = [forward](const Batch& batch, double num_items) { return forward(batch, num_items, 0); }};
}

TrainingTask sequence_classification_task(GenericForSequenceClassification& model) {
  return task_of(rows_of, [&model](const Batch& batch, double num_items) {
    const auto output = model.forward(inputs_of(batch, model, {"labels"}), labels_of(batch, "labels", model));
    return TaskOutput{as_share(output.loss, rows_of(batch), num_items), {{"logits", output.logits}}};
  });
}

TrainingTask token_classification_task(GenericForTokenClassification& model) {
  return task_of(counted_labels, [&model](const Batch& batch, double num_items) {
    const auto output = model.forward(inputs_of(batch, model, {"labels"}), labels_of(batch, "labels", model));
    const auto counted = counted_labels(batch);
    return TaskOutput{counted == 0 ? output.logits.sum() * 0 : as_share(output.loss, counted, num_items),
                      {{"logits", output.logits}}};
  });
}

TrainingTask question_answering_task(GenericForQuestionAnswering& model) {
  return task_of(rows_of, [&model](const Batch& batch, double num_items) {
    const auto output =
        model.forward(inputs_of(batch, model, {"start_positions", "end_positions"}),
                      labels_of(batch, "start_positions", model), labels_of(batch, "end_positions", model));
    return TaskOutput{as_share(output.loss, rows_of(batch), num_items),
                      {{"start_logits", output.start_logits}, {"end_logits", output.end_logits}}};
  });
}

}  // namespace transformers
