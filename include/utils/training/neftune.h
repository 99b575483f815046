#pragma once

#include <transformers/export.h>
#include <transformers/utils/nn/embedding.h>

namespace TRANSFORMERS_API transformers {

/// For its lifetime adds uniform noise in ±alpha / √(seq · hidden) to the output of the embeddings in train mode; eval
/// mode is not affected. Mirrors HF `activate_neftune` and `deactivate_neftune` (integrations/neftune.py, transformers
/// 5.23.0; Jain et al. 2023), and draws the same numbers from the same seed on a CPU.
class NeftuneNoise {
 public:
  /// alpha must be positive.
  NeftuneNoise(Embedding embeddings, double neftune_noise_alpha);
  /// Uses the input embeddings of `model`, which is a PreTrainedModel or holds one, as a PeftModel does. Throws when
  /// there is none.
  NeftuneNoise(torch::nn::Module& model, double neftune_noise_alpha);
  ~NeftuneNoise();
  NeftuneNoise(const NeftuneNoise&) = delete;
  NeftuneNoise& operator=(const NeftuneNoise&) = delete;

 private:
  Embedding embeddings_;
  ForwardHooks::HookId hook_;
};

}  // namespace transformers
