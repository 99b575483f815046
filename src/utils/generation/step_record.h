#pragma once

#include <chrono>

#include "utils/generation/generation_plan.h"

namespace transformers {

/// Collects the outputs that a call asked for, step by step, and measures times.
class StepRecord {
 public:
  StepRecord(const GenerationPlan& plan, GenerateOutput& output);
  /// To be called for each step.
  void add(const at::Tensor& logits, const at::Tensor& scores);
  void add_outputs(std::vector<at::Tensor> attentions, std::vector<at::Tensor> hidden_states);
  /// To be called when the tokens of a step are known.
  void end_step();

 private:
  using Clock = std::chrono::steady_clock;
  const GenerationPlan& plan_;
  GenerateOutput& output_;
  Clock::time_point start_ = Clock::now(), first_token_{};
  bool first_step_ = true;
};

}  // namespace transformers
