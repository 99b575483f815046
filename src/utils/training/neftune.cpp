#include <ATen/ATen.h>
#include <transformers/utils/modeling/pretrained_model.h>
#include <transformers/utils/training/neftune.h>

#include <cmath>

namespace transformers {
namespace {

Embedding embeddings_of(torch::nn::Module& model) {
  if (auto* pretrained = dynamic_cast<PreTrainedModel*>(&model)) {
    return pretrained->get_input_embeddings();
  }
  for (const auto& module : model.modules(/*include_self=*/false)) {
    if (auto* pretrained = dynamic_cast<PreTrainedModel*>(module.get())) {
      return pretrained->get_input_embeddings();
    }
  }
  TORCH_CHECK(false, "neftune_noise_alpha needs a model with token embeddings");
}

/// embeddings: [batch, seq, hidden].
at::Tensor with_noise(const at::Tensor& embeddings, double alpha) {
  const auto elements = static_cast<float>(embeddings.size(1) * embeddings.size(2));
  const double magnitude = (1.0F / std::sqrt(elements)) * static_cast<float>(alpha);
  return embeddings + at::zeros_like(embeddings).uniform_(-magnitude, magnitude);
}

}  // namespace

NeftuneNoise::NeftuneNoise(Embedding embeddings, double neftune_noise_alpha) : embeddings_(std::move(embeddings)) {
  TORCH_CHECK(neftune_noise_alpha > 0, "neftune_noise_alpha must be positive, got ", neftune_noise_alpha);
  // The embeddings own the hook, so the hook must not own the embeddings.
  hook_ = embeddings_->register_forward_hook(
      [module = embeddings_.get(), neftune_noise_alpha](const at::Tensor&, const at::Tensor& output) {
        return module->is_training() ? with_noise(output, neftune_noise_alpha) : at::Tensor();
      },
      ForwardHooks::Owner::kObserver);
}

NeftuneNoise::NeftuneNoise(torch::nn::Module& model, double neftune_noise_alpha)
    : NeftuneNoise(embeddings_of(model), neftune_noise_alpha) {}

NeftuneNoise::~NeftuneNoise() { embeddings_->remove_forward_hook(hook_); }

}  // namespace transformers
