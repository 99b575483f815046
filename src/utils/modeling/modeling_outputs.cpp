#include <transformers/utils/modeling/modeling_outputs.h>

namespace transformers {
namespace {

void append(std::vector<at::Tensor>& fields, const at::Tensor& tensor) {
  if (tensor.defined()) {
    fields.push_back(tensor);
  }
}

void append(std::vector<at::Tensor>& fields, const std::vector<at::Tensor>& tensors) {
  fields.insert(fields.end(), tensors.begin(), tensors.end());
}

void append(std::vector<at::Tensor>& fields, const std::shared_ptr<Cache>& cache) {
  for (int64_t i = 0; cache && i < cache->num_layers(); ++i) {
    const auto [keys, values] = cache->layer(i);
    fields.push_back(keys);
    fields.push_back(values);
  }
}

template <typename... Fields>
std::vector<at::Tensor> tuple_of(const Fields&... fields) {
  std::vector<at::Tensor> tuple;
  (append(tuple, fields), ...);
  return tuple;
}

}  // namespace

std::vector<at::Tensor> to_tuple(const BaseModelOutputWithPast& o) {
  return tuple_of(o.last_hidden_state, o.past_key_values, o.hidden_states, o.attentions);
}
std::vector<at::Tensor> to_tuple(const CausalLMOutputWithPast& o) {
  return tuple_of(o.loss, o.logits, o.past_key_values, o.hidden_states, o.attentions);
}
std::vector<at::Tensor> to_tuple(const SequenceClassifierOutputWithPast& o) {
  return tuple_of(o.loss, o.logits, o.past_key_values, o.hidden_states, o.attentions);
}
std::vector<at::Tensor> to_tuple(const QuestionAnsweringModelOutput& o) {
  return tuple_of(o.loss, o.start_logits, o.end_logits, o.hidden_states, o.attentions);
}
std::vector<at::Tensor> to_tuple(const TokenClassifierOutput& o) {
  return tuple_of(o.loss, o.logits, o.hidden_states, o.attentions);
}

}  // namespace transformers
