#include <ATen/ATen.h>
#include <torch/nn/modules/normalization.h>
#include <transformers/utils/modeling/modeling_utils.h>

#include <unordered_map>

namespace transformers {
namespace {

/// Copies by the tensor they were made of, so that what is tied stays tied and what is not does not become so.
class ParameterCopies {
 public:
  explicit ParameterCopies(std::optional<torch::Device> device) : device_(device) {}

  at::Tensor of(const at::Tensor& tensor) {
    if (!tensor.defined()) {
      return {};
    }
    auto& copy = copies_[tensor.unsafeGetTensorImpl()];
    if (!copy.defined()) {
      copy = tensor.detach().to(device_.value_or(tensor.device()), tensor.scalar_type(), false, /*copy=*/true);
      copy.requires_grad_(tensor.requires_grad());
    }
    return copy;
  }

  /// `copy` is what stands for `tensor` from now on.
  void set(const at::Tensor& tensor, const at::Tensor& copy) { copies_[tensor.unsafeGetTensorImpl()] = copy; }

 private:
  std::optional<torch::Device> device_;
  std::unordered_map<const void*, at::Tensor> copies_;
};

void copy_linear(const LinearImpl& linear, LinearImpl& copy, ParameterCopies& copies) {
  const auto weight = copies.of(linear.weight), bias = copies.of(linear.bias);
  copy.set_parameters(weight, bias);
  copy.tie_weight(weight);
  if (bias.defined()) {
    copy.bias.requires_grad_(bias.requires_grad());
  }
  copy.set_method(linear.method());
}

void copy_embedding(const EmbeddingImpl& embedding, EmbeddingImpl& copy, ParameterCopies& copies) {
  copy.options.padding_idx(embedding.options.padding_idx());
  copy.set_weight(copies.of(embedding.weight));
  copy.weight.requires_grad_(embedding.weight.requires_grad());
  copies.set(embedding.weight, copy.weight);
}

/// Norms, activations and what else a model holds: tensors that stand in the members and only change what they are.
void copy_others(const torch::nn::Module& module, torch::nn::Module& copy, ParameterCopies& copies) {
  const auto copy_each = [&](const auto& tensors, auto targets) {
    for (const auto& entry : tensors) {
      auto& target = targets[entry.key()];
      assign_tensor(target, copies.of(entry.value()));
      target.requires_grad_(entry.value().requires_grad());
    }
  };
  copy_each(module.named_parameters(/*recurse=*/false), copy.named_parameters(/*recurse=*/false));
  copy_each(module.named_buffers(/*recurse=*/false), copy.named_buffers(/*recurse=*/false));
  if (auto* norm = copy.as<torch::nn::LayerNormImpl>()) {
    norm->options.normalized_shape(module.as<torch::nn::LayerNormImpl>()->options.normalized_shape());
  }
}

}  // namespace

void copy_parameters(const torch::nn::Module& model, torch::nn::Module& copy,
                     const std::optional<torch::Device>& device) {
  const auto* whole = dynamic_cast<const PreTrainedModel*>(&model);
  TORCH_CHECK(whole == nullptr || whole->hf_device_map().empty(),
              "clone: a model that lies in several places by its device map cannot be copied");
  const at::NoGradGuard no_grad;
  ParameterCopies copies(device);
  const auto modules = model.named_modules();
  const auto counterparts = copy.named_modules();
  for (const auto& entry : modules) {
    const auto* counterpart = counterparts.find(entry.key());
    TORCH_CHECK(counterpart != nullptr, "clone: the config builds no module ", entry.key());
    auto& module = *entry.value();
    if (const auto* linear = module.as<LinearImpl>()) {
      copy_linear(*linear, *(*counterpart)->as<LinearImpl>(), copies);
    } else if (const auto* embedding = module.as<EmbeddingImpl>()) {
      copy_embedding(*embedding, *(*counterpart)->as<EmbeddingImpl>(), copies);
    } else {
      copy_others(module, **counterpart, copies);
    }
    (*counterpart)->train(module.is_training());
  }
  if (device) {
    copy.to(*device);
  }
}

}  // namespace transformers
