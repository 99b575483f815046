#pragma once

#include <chrono>

#include "utils/generation/next_token_scorer.h"

namespace transformers {

/// Collects what a call asked for, step by step, and its times.
class StepRecord {
 public:
  StepRecord(const GenerationPlan& plan, GenerateOutput& output);
  /// After each forward.
  void add(const at::Tensor& logits, const at::Tensor& scores, NextTokenScorer& scorer);
  /// When a step's tokens are known.
  void end_step();

 private:
  using Clock = std::chrono::steady_clock;
  const GenerationPlan& plan_;
  GenerateOutput& output_;
  Clock::time_point start_ = Clock::now(), first_token_{};
  bool first_step_ = true;
};

}  // namespace transformers
