#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

class Tokenizer;

// Mirrors generation/stopping_criteria.py, transformers 5.23.0.

/// Decides which rows are finished after a token.
class StoppingCriteria {
 public:
  virtual ~StoppingCriteria() = default;
  /// input_ids: int64 [rows, seq]; scores: those of each step so far, empty unless asked for. Returns bool [rows].
  virtual at::Tensor operator()(const at::Tensor& input_ids, const std::vector<at::Tensor>& scores) = 0;
};

/// Stops at `max_length` tokens, the prompt included.
class MaxLengthCriteria : public StoppingCriteria {
 public:
  explicit MaxLengthCriteria(int64_t max_length) : max_length_(max_length) {}
  at::Tensor operator()(const at::Tensor& input_ids, const std::vector<at::Tensor>& scores) override;

 private:
  int64_t max_length_;
};

/// Stops after the token during which `max_time` seconds have passed since construction.
class MaxTimeCriteria : public StoppingCriteria {
 public:
  explicit MaxTimeCriteria(double max_time) : max_time_(max_time) {}
  at::Tensor operator()(const at::Tensor& input_ids, const std::vector<at::Tensor>& scores) override;

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::duration<double> max_time_;
};

/// Stops rows whose last token is one of these.
class EosTokenCriteria : public StoppingCriteria {
 public:
  explicit EosTokenCriteria(const std::vector<int64_t>& eos_token_id);
  at::Tensor operator()(const at::Tensor& input_ids, const std::vector<at::Tensor>& scores) override;

 private:
  at::Tensor eos_token_id_;
};

/// Stops rows in whose text one of the strings ends within the last token, at its end or earlier. The string may begin
/// in the prompt. Special tokens count with their written form.
class StopStringCriteria : public StoppingCriteria {
 public:
  /// Throws without a tokenizer, without strings and on an empty string.
  StopStringCriteria(std::shared_ptr<const Tokenizer> tokenizer, std::vector<std::string> stop_strings);
  at::Tensor operator()(const at::Tensor& input_ids, const std::vector<at::Tensor>& scores) override;

 private:
  bool ends_row(const std::vector<int64_t>& tail) const;

  std::shared_ptr<const Tokenizer> tokenizer_;
  std::vector<std::string> stop_strings_;
  int64_t tail_length_ = 0;  // tokens that can hold the longest string
};

}  // namespace transformers
