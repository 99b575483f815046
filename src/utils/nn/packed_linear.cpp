#include <ATen/core/grad_mode.h>
#include <transformers/utils/nn/packed_linear.h>

#include <optional>

#include "utils/nn/internal/matmul.h"
#include "utils/nn/onednn_ops.h"

namespace transformers {
namespace {

using Reorder = at::Tensor(const at::Tensor&, std::optional<int64_t>);
using IsSupported = bool();

const auto& reorder() {
  static const auto handle = operator_named<Reorder>("mkldnn::_reorder_linear_weight");
  return handle;
}

bool bf16_is_supported() {
  static const auto handle = operator_named<IsSupported>("mkldnn::_is_mkldnn_bf16_supported");
  return handle && handle->call();
}

}  // namespace

bool PackedLinear::supports(const torch::Tensor& weight) {
  const bool dtype_fits = weight.scalar_type() == at::kFloat || weight.scalar_type() == at::kBFloat16;
  if (!reorder() || !linear_pointwise() || !weight.is_cpu() || weight.dim() != 2 || weight.numel() == 0 ||
      !dtype_fits) {
    return false;
  }
  return weight.scalar_type() == at::kFloat || bf16_is_supported();
}

PackedLinear::PackedLinear(const torch::Tensor& weight)
    : storage_(weight.storage().getWeakStorageImpl()), data_(weight.const_data_ptr()) {
  TORCH_CHECK(supports(weight), "PackedLinear: this machine cannot pack a weight of dtype ", weight.scalar_type(),
              " and shape ", weight.sizes(), " on ", weight.device());
  packed_ = reorder()->call(weight.detach().contiguous(), std::nullopt);
}

std::shared_ptr<const LinearMethod> PackedLinear::clone(const LinearImpl& copy, TensorCopies&) const {
  return supports(copy.weight) ? std::make_shared<PackedLinear>(copy.weight) : nullptr;
}

bool PackedLinear::is_packed_one(const torch::Tensor& weight) const {
  return weight.is_cpu() && weight.storage().unsafeGetStorageImpl() == storage_._unsafe_get_target() &&
         weight.const_data_ptr() == data_ && weight.sizes() == packed_.sizes() &&
         weight.scalar_type() == packed_.scalar_type();
}

torch::Tensor PackedLinear::forward(const LinearImpl& linear, const torch::Tensor& input) const {
  const auto& weight = linear.weight;
  const bool records_gradients = at::GradMode::is_enabled() && (input.requires_grad() || weight.requires_grad());
  if (records_gradients || !is_packed_one(weight) || !input.is_cpu() || input.scalar_type() != weight.scalar_type() ||
      input.numel() == 0) {
    return functional::linear(input, weight, linear.bias, linear.is_training());
  }
  const auto bias = linear.bias.defined() ? std::make_optional(linear.bias) : std::nullopt;
  return onednn_linear(input, packed_, bias);
}

}  // namespace transformers
