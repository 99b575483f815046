#pragma once

#include <transformers/utils/modeling/modeling_utils.h>

namespace transformers {

struct CausalLMOptions {
  at::Tensor labels{};        // int64 [batch, seq], −100 is ignored; gives a loss
  at::Tensor shift_labels{};  // instead of labels: already shifted by one
  std::optional<double> num_items_in_batch{};
  int64_t logits_to_keep = 0;      // the last n positions only; 0: all
  at::Tensor positions_to_keep{};  // instead: these positions, int64 [n]
};

/// A model that gives next-token scores: the interface that generation and training see.
class CausalLM : public PreTrainedModel {
 public:
  virtual CausalLMOutputWithPast forward(const ModelInputs& inputs, const CausalLMOptions& options = {}) = 0;

  /// Read from the folder's generation_config.json; what `generate` falls back to.
  GenerationConfig generation_config;

 protected:
  std::string generation_config_json() const override { return generation_config.to_json(); }
  void read_generation_config(const std::string& folder) override {
    generation_config = GenerationConfig::from_pretrained(folder);
  }
};

/// What follows a base model in HF's `…ForCausalLM.forward`: head on the kept positions, loss where labels are given.
CausalLMOutputWithPast causal_lm_output(BaseModelOutputWithPast outputs, Linear& lm_head,
                                        const CausalLMOptions& options);

}  // namespace transformers
