#pragma once

#include <transformers/utils/generation/generate.h>

namespace transformers::testing {

/// Models with two small layers and random weights, the same at every call; both families.
std::shared_ptr<CausalLM> tiny_llama(int64_t vocab_size = 24);
std::shared_ptr<CausalLM> tiny_gptj(int64_t vocab_size = 24);
std::vector<std::shared_ptr<CausalLM>> tiny_models();

/// int64 [1, seq], respectively [rows, seq].
at::Tensor ids(std::vector<int64_t> row);
at::Tensor id_rows(const std::vector<std::vector<int64_t>>& rows);

/// Forces these tokens one after the other, whatever the model says.
class ForcedText : public LogitsProcessor {
 public:
  explicit ForcedText(std::vector<int64_t> tokens) : tokens_(std::move(tokens)) {}
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  std::vector<int64_t> tokens_;
  size_t step_ = 0;
};

}  // namespace transformers::testing
