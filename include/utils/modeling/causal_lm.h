#pragma once

#include <transformers/export.h>
#include <transformers/utils/configuration/generation_config.h>
#include <transformers/utils/modeling/base_model.h>

#include <cstdint>
#include <optional>
#include <string>

namespace TRANSFORMERS_API transformers {

/// The arguments of HF's `…ForCausalLM.forward` that a base model does not have.
struct CausalLMOptions {
  at::Tensor labels{};                         // int64 [batch, seq], −100 is ignored; gives a loss
  at::Tensor shift_labels{};                   // instead of labels: already shifted by one
  std::optional<double> num_items_in_batch{};  // divides the summed loss; unset: the mean over counted labels
  double label_smoothing = 0;                  // share of the target that is spread over the vocabulary
  int64_t loss_chunk_rows = 0;     // > 0: computes the loss for so many positions at a time and returns no logits
  int64_t logits_to_keep = 0;      // the last n positions only; 0: all
  at::Tensor positions_to_keep{};  // instead: these positions, int64 [n]
};

/// A model that computes next-token scores: the interface that generation and training use.
class CausalLM : public PreTrainedModel {
 public:
  /// Returns logits [batch, kept positions, vocab] in the model's dtype and, where labels are given, a loss, fp32 [].
  /// Throws on inputs that do not fit, see `check_model_inputs` and `create_causal_mask`.
  virtual CausalLMOutputWithPast forward(const ModelInputs& inputs, const CausalLMOptions& options = {}) = 0;

  /// The defaults of `generate`, read from the folder's generation_config.json.
  GenerationConfig generation_config;

  void read_generation_config(const ModelFolder& folder) override {
    generation_config = GenerationConfig::from_pretrained(folder);
  }

 protected:
  std::string generation_config_json() const override { return generation_config.to_json(); }
};

/// Whether this head supports `CausalLMOptions::loss_chunk_rows`. A head that is packed, quantised, adapted or hooked
/// does not: it has to compute its logits.
bool allows_chunked_loss(const Linear& lm_head);

/// The part of HF's `…ForCausalLM.forward` after the base model: applies the head to the kept positions and computes
/// the loss where labels are given.
CausalLMOutputWithPast causal_lm_output(BaseModelOutputWithPast outputs, Linear& lm_head,
                                        const CausalLMOptions& options);

}  // namespace transformers
