// Mirrors modeling_layers.py, transformers 5.23.0.
#include <ATen/ATen.h>
#include <transformers/utils/modeling/losses.h>
#include <transformers/utils/modeling/modeling_layers.h>

namespace transformers {
namespace {

/// The position of each row whose scores are used, int64 [batch].
at::Tensor pooled_positions(const ModelInputs& inputs, const at::Tensor& logits, std::optional<int64_t> pad_token_id) {
  const auto batch = logits.size(0);
  TORCH_CHECK(pad_token_id || batch == 1, "sequence classification of ", batch,
              " rows needs a pad_token_id in the config to find each row's last token");
  if (pad_token_id && inputs.input_ids.defined()) {
    return last_non_pad_token(inputs.input_ids, *pad_token_id).to(logits.device());
  }
  if (pad_token_id) {
    TORCH_WARN_ONCE("padding cannot be told from inputs_embeds; each row is read off its last position");
  }
  return at::full({batch}, logits.size(1) - 1, logits.options().dtype(at::kLong));
}

}  // namespace

GenericForSequenceClassification::GenericForSequenceClassification(const MakeBase& make_base, std::string prefix)
    : ModelWithHead(std::move(prefix)) {
  build([&] {
    register_base(make_base());
    score = register_module("score", Linear(config().get_hidden_size(), config().num_labels(), /*bias=*/false));
  });
}

SequenceClassifierOutputWithPast GenericForSequenceClassification::forward(const ModelInputs& inputs,
                                                                           const at::Tensor& labels) {
  auto outputs = base_->forward(inputs);
  const auto logits = score(outputs.last_hidden_state);  // [batch, seq, labels]
  const auto positions = pooled_positions(inputs, logits, config().pad_token_id);
  const auto pooled = logits.index({at::arange(logits.size(0), positions.options()), positions});
  at::Tensor loss;
  if (labels.defined()) {
    auto& problem_type = config().problem_type;
    if (!problem_type) {
      problem_type = infer_problem_type(config().num_labels(), labels.scalar_type());
    }
    loss = sequence_classification_loss(pooled, labels, *problem_type);
  }
  return {loss, pooled, std::move(outputs.past_key_values), std::move(outputs.hidden_states),
          std::move(outputs.attentions)};
}

GenericForQuestionAnswering::GenericForQuestionAnswering(const MakeBase& make_base, std::string prefix)
    : ModelWithHead(std::move(prefix)) {
  build([&] {
    register_base(make_base());
    qa_outputs = register_module("qa_outputs", Linear(config().get_hidden_size(), 2));
  });
}

QuestionAnsweringModelOutput GenericForQuestionAnswering::forward(const ModelInputs& inputs,
                                                                  const at::Tensor& start_positions,
                                                                  const at::Tensor& end_positions) {
  auto outputs = base_->forward(inputs);
  const auto logits = qa_outputs(outputs.last_hidden_state).unbind(-1);
  const auto start_logits = logits[0].contiguous();
  const auto end_logits = logits[1].contiguous();
  at::Tensor loss;
  if (start_positions.defined() && end_positions.defined()) {
    loss = question_answering_loss(start_logits, end_logits, start_positions, end_positions);
  }
  return {loss, start_logits, end_logits, std::move(outputs.hidden_states), std::move(outputs.attentions)};
}

GenericForTokenClassification::GenericForTokenClassification(const MakeBase& make_base, std::string prefix)
    : ModelWithHead(std::move(prefix)) {
  build([&] {
    register_base(make_base());
    score = register_module("score", Linear(config().get_hidden_size(), config().num_labels()));
  });
}

TokenClassifierOutput GenericForTokenClassification::forward(const ModelInputs& inputs, const at::Tensor& labels) {
  auto outputs = base_->forward(inputs);
  const auto dropped = at::dropout(outputs.last_hidden_state, config().classification_dropout(), is_training());
  const auto logits = score(dropped);
  at::Tensor loss;
  if (labels.defined()) {
    loss = token_classification_loss(logits, labels);
  }
  return {loss, logits, std::move(outputs.hidden_states), std::move(outputs.attentions)};
}

}  // namespace transformers
