#include "utils/generation/step_record.h"

namespace transformers {
namespace {

double seconds(std::chrono::steady_clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

StepRecord::StepRecord(const GenerationPlan& plan, GenerateOutput& output) : plan_(plan), output_(output) {
  output.prompt_tokens = plan.prompt_tokens;
}

void StepRecord::add(const at::Tensor& logits, const at::Tensor& scores) {
  if (plan_.output_scores) {
    output_.scores.push_back(scores);
  }
  if (plan_.output_logits) {
    output_.logits.push_back(logits);
  }
}

void StepRecord::add_outputs(std::vector<at::Tensor> attentions, std::vector<at::Tensor> hidden_states) {
  if (plan_.model_inputs.output_attentions) {
    output_.attentions.push_back(std::move(attentions));
  }
  if (plan_.model_inputs.output_hidden_states) {
    output_.hidden_states.push_back(std::move(hidden_states));
  }
}

void StepRecord::end_step() {
  const auto now = Clock::now();
  if (first_step_) {
    first_token_ = now;
    first_step_ = false;
    output_.prefill_seconds = seconds(now - start_);
  } else {
    output_.decode_seconds = seconds(now - first_token_);
  }
}

}  // namespace transformers
