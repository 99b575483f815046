// Mirrors tuners/lora/layer.py, dora.py and variants.py, peft 0.21.2.
#include "utils/peft/lora_linear.h"

#include <ATen/ATen.h>
#include <transformers/utils/nn/linear_slices.h>
#include <transformers/utils/nn/packed_linear.h>
#include <transformers/utils/quantization/weight_only.h>

#include <cmath>
#include <map>
#include <numbers>

#include "utils/nn/internal/matmul.h"

namespace transformers {
namespace {

/// The bound of `torch.nn.init.kaiming_uniform_(weight, a=math.sqrt(5))`, in its order of rounding.
double kaiming_bound(int64_t fan_in) {
  const double gain = std::sqrt(2.0 / (1 + 5));
  return std::numbers::sqrt3 * (gain / std::sqrt(static_cast<double>(fan_in)));
}

/// Halves are multiplied in fp32 on a CPU.
at::Tensor product(const at::Tensor& B, const at::Tensor& A) {
  const bool in_float = B.is_cpu() && (B.scalar_type() == at::kHalf || B.scalar_type() == at::kBFloat16);
  return in_float ? at::matmul(B.to(at::kFloat), A.to(at::kFloat)).to(B.scalar_type()) : at::matmul(B, A);
}

at::Tensor low_rank_product(const at::Tensor& input, const at::Tensor& A, const at::Tensor& B, const at::Tensor& bias) {
  return functional::linear(functional::linear(input, A, {}, /*training=*/false), B, bias, /*training=*/false);
}

/// The layer's own method, without the adapters.
const LinearMethod* base_method(const LinearImpl& linear) {
  const auto* method = linear.method().get();
  const auto* adapted = dynamic_cast<const LoraLinear*>(method);
  return adapted == nullptr ? method : adapted->base().get();
}

c10::Device device_of(const LinearImpl& linear) {
  const auto* quantized = dynamic_cast<const WeightOnlyLinear*>(base_method(linear));
  return quantized == nullptr ? linear.weight.device() : quantized->device();
}

double scaling_of(const LoraTarget& target, const LoraConfig& config) {
  const auto rank = static_cast<double>(target.rank);
  return target.alpha / (config.use_rslora ? std::sqrt(rank) : rank);
}

}  // namespace

LoraWeightsImpl::LoraWeightsImpl(const LoraTarget& target, const LoraConfig& config, c10::ScalarType dtype,
                                 std::optional<c10::Device> device)
    : scaling(scaling_of(target, config)), dropout_(config.lora_dropout) {
  const auto& linear = *target.linear;
  const auto options = at::TensorOptions().dtype(dtype).device(device.value_or(device_of(linear)));
  const int64_t rank = target.rank, out = linear.weight.size(0), in = linear.weight.size(1);
  lora_A = register_parameter("lora_A", at::empty({rank, in}, options));
  lora_B = register_parameter("lora_B", at::empty({out, rank}, options));
  if (config.lora_bias) {
    lora_B_bias = register_parameter("lora_B_bias", at::empty({out}, options));
  }
  if (config.use_dora) {
    lora_magnitude_vector = register_parameter("lora_magnitude_vector", at::empty({out}, options));
  }
}

void LoraWeightsImpl::initialize(const LinearImpl& linear, LoraInit init, at::Generator generator) {
  const at::NoGradGuard no_grad;
  const auto uniform = [&](const at::Tensor& target, double bound) {
    target.copy_(at::empty(target.sizes()).uniform_(-bound, bound, generator));
  };
  const auto rank = lora_A.size(0), in = lora_A.size(1);
  uniform(lora_A, kaiming_bound(in));
  uniform(lora_B, kaiming_bound(rank));
  if (lora_B_bias.defined()) {
    uniform(lora_B_bias, 1 / std::sqrt(static_cast<double>(rank)));
  }
  if (init != LoraInit::kRandom) {
    if (init == LoraInit::kGaussian) {
      lora_A.copy_(at::empty(lora_A.sizes()).normal_(0, 1 / static_cast<double>(rank), generator));
    } else {
      uniform(lora_A, kaiming_bound(in));
    }
    lora_B.zero_();
    if (lora_B_bias.defined()) {
      lora_B_bias.zero_();
    }
  }
  if (lora_magnitude_vector.defined()) {
    lora_magnitude_vector.copy_(weight_norm(dense_weight(linear, base_method(linear))));
  }
}

at::Tensor LoraWeightsImpl::delta_weight() const { return product(lora_B, lora_A) * scaling; }

at::Tensor LoraWeightsImpl::weight_norm(const at::Tensor& weight) const {
  const at::NoGradGuard no_grad;
  return at::linalg_vector_norm(weight.to(lora_A.scalar_type()) + delta_weight(), 2, at::IntArrayRef{1});
}

at::Tensor LoraWeightsImpl::add_to(const at::Tensor& result, const LinearImpl& linear, const at::Tensor& input) const {
  const auto x = input.to(lora_A.scalar_type());
  if (lora_magnitude_vector.defined()) {
    return add_dora(result, linear, x);
  }
  const auto dropped = dropout_ > 0 ? at::dropout(x, dropout_, linear.is_training()) : x;
  return at::add(result, low_rank_product(dropped, lora_A, lora_B, lora_B_bias), scaling);
}

at::Tensor LoraWeightsImpl::add_dora(const at::Tensor& result, const LinearImpl& linear, const at::Tensor& x) const {
  // The norm counts as a constant in backward (section 4.3 of the paper).
  const auto weight = dense_weight(linear, base_method(linear));
  const auto factor = lora_magnitude_vector / weight_norm(weight);
  const bool drops = dropout_ > 0 && linear.is_training();
  const auto dropped = drops ? at::dropout(x, dropout_, true) : x;
  const auto base = drops                   ? functional::linear(dropped, weight.to(x.scalar_type()), {}, false)
                    : linear.bias.defined() ? result - linear.bias
                                            : result;
  const auto low_rank = low_rank_product(dropped, lora_A, lora_B, {});
  return result + (factor - 1) * base + factor * low_rank * scaling;
}

bool LoraLinear::fits(const LinearMethod* base) {
  return base == nullptr || dynamic_cast<const RowSlices*>(base) != nullptr ||
         dynamic_cast<const ColumnSlices*>(base) != nullptr || dynamic_cast<const PackedLinear*>(base) != nullptr ||
         dynamic_cast<const WeightOnlyLinear*>(base) != nullptr || dynamic_cast<const LoraLinear*>(base) != nullptr;
}

torch::Tensor LoraLinear::forward(const LinearImpl& linear, const torch::Tensor& input) const {
  auto result = base_ ? base_->forward(linear, input)
                      : functional::linear(input, linear.weight, linear.bias, linear.is_training());
  if (merged()) {
    return result;
  }
  const auto dtype = result.scalar_type();
  for (const auto& weights : active_) {
    result = weights->add_to(result, linear, input);
  }
  return result.to(dtype);
}

std::shared_ptr<LoraLinear> LoraLinear::with_copies(std::shared_ptr<const LinearMethod> base,
                                                    const AdapterCopies& copy_of, TensorCopies& copies) const {
  auto method = std::make_shared<LoraLinear>(std::move(base));
  for (const auto& weights : active_) {
    method->active_.push_back(copy_of(weights));
  }
  for (const auto& [weights, factor] : merged_) {
    method->merged_.push_back({copy_of(weights), copies.of(factor)});
  }
  return method;
}

std::shared_ptr<const LinearMethod> LoraLinear::clone(const LinearImpl& copy, TensorCopies& copies) const {
  auto base = base_ ? base_->clone(copy, copies) : nullptr;
  std::map<const LoraWeightsImpl*, std::shared_ptr<LoraWeightsImpl>> made;  // an adapter may be both active and merged
  const auto copy_of = [&](const LoraWeights& weights) {
    auto& adapter = made[weights.get()];
    if (adapter == nullptr) {
      adapter = std::dynamic_pointer_cast<LoraWeightsImpl>(weights->clone(copies.device()));
    }
    return LoraWeights(adapter);
  };
  return with_copies(base ? base : base_, copy_of, copies);
}

void LoraLinear::merge(LinearImpl& linear, const std::vector<LoraWeights>& weights) {
  const at::NoGradGuard no_grad;
  // Norms are computed from the weight without any adapter, as in forward.
  for (const auto& adapter : weights) {
    const auto& magnitude = adapter->lora_magnitude_vector;
    merged_.push_back(
        {adapter, magnitude.defined() ? (magnitude / adapter->weight_norm(linear.weight)).unsqueeze(1) : at::Tensor()});
  }
  for (const auto& [adapter, factor] : merged_) {
    if (factor.defined()) {
      linear.weight.copy_(factor * (linear.weight + adapter->delta_weight()));
    } else {
      linear.weight.add_(adapter->delta_weight());
    }
    if (adapter->lora_B_bias.defined()) {
      linear.bias.add_(adapter->lora_B_bias, adapter->scaling);
    }
  }
  renew_base(linear);
}

void LoraLinear::unmerge(LinearImpl& linear) {
  const at::NoGradGuard no_grad;
  for (; !merged_.empty(); merged_.pop_back()) {
    const auto& [adapter, factor] = merged_.back();
    if (factor.defined()) {
      linear.weight.copy_(linear.weight / factor - adapter->delta_weight());
    } else {
      linear.weight.sub_(adapter->delta_weight());
    }
    if (adapter->lora_B_bias.defined()) {
      linear.bias.sub_(adapter->lora_B_bias, adapter->scaling);
    }
  }
  renew_base(linear);
}

void LoraLinear::renew_base(const LinearImpl& linear) {
  if (dynamic_cast<const PackedLinear*>(base_.get()) != nullptr) {
    base_ = std::make_shared<PackedLinear>(linear.weight);
  }
}

}  // namespace transformers
