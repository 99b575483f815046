#pragma once

#include <transformers/export.h>
#include <transformers/utils/nn/embedding.h>

namespace TRANSFORMERS_API transformers {

/// For its lifetime the embeddings a model trains on carry uniform noise in ±alpha / √(seq · hidden); in eval mode they
/// do not. Mirrors HF `activate_neftune` and `deactivate_neftune` (integrations/neftune.py, transformers 5.23.0; Jain
/// et al. 2023), with the same numbers from the same seed on a CPU.
class NeftuneNoise {
 public:
  /// alpha must be positive.
  NeftuneNoise(Embedding embeddings, double neftune_noise_alpha);
  /// Of the model's input embeddings; `model` is one or holds one, as a PeftModel does. Throws when there is none.
  NeftuneNoise(torch::nn::Module& model, double neftune_noise_alpha);
  ~NeftuneNoise();
  NeftuneNoise(const NeftuneNoise&) = delete;
  NeftuneNoise& operator=(const NeftuneNoise&) = delete;

 private:
  Embedding embeddings_;
  ForwardHooks::HookId hook_;
};

}  // namespace transformers
