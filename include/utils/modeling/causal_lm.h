#pragma once

#include <transformers/export.h>
#include <transformers/utils/modeling/base_model.h>
#include <transformers/utils/modeling/generation_config.h>

#include <cstdint>
#include <optional>
#include <string>

namespace TRANSFORMERS_API transformers {

/// What HF's `…ForCausalLM.forward` takes beyond a base model's arguments.
struct CausalLMOptions {
  at::Tensor labels{};                         // int64 [batch, seq], −100 is ignored; gives a loss
  at::Tensor shift_labels{};                   // instead of labels: already shifted by one
  std::optional<double> num_items_in_batch{};  // divides the summed loss; unset: the mean over counted labels
  double label_smoothing = 0;                  // share of the target that is spread over the vocabulary
  int64_t loss_chunk_rows = 0;                 // > 0: the loss so many positions at a time, and no logits are returned
  int64_t logits_to_keep = 0;                  // the last n positions only; 0: all
  at::Tensor positions_to_keep{};              // instead: these positions, int64 [n]
};

/// A model that gives next-token scores: the interface that generation and training see.
class CausalLM : public PreTrainedModel {
 public:
  /// Logits [batch, kept positions, vocab] in the model's dtype; loss fp32 [] where labels are given. Throws on inputs
  /// that do not fit, see `check_model_inputs` and `create_causal_mask`.
  virtual CausalLMOutputWithPast forward(const ModelInputs& inputs, const CausalLMOptions& options = {}) = 0;

  /// Read from the folder's generation_config.json; what `generate` falls back to.
  GenerationConfig generation_config;

  void read_generation_config(const ModelFolder& folder) override {
    generation_config = GenerationConfig::from_pretrained(folder);
  }

 protected:
  std::string generation_config_json() const override { return generation_config.to_json(); }
};

/// Whether `CausalLMOptions::loss_chunk_rows` can go with this head: one that is packed, quantised, adapted or hooked
/// has to give its logits.
bool allows_chunked_loss(const Linear& lm_head);

/// What follows a base model in HF's `…ForCausalLM.forward`: head on the kept positions, loss where labels are given.
CausalLMOutputWithPast causal_lm_output(BaseModelOutputWithPast outputs, Linear& lm_head,
                                        const CausalLMOptions& options);

}  // namespace transformers
