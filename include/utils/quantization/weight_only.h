#pragma once

/// \file
/// The room utils/quantization stores the weights of linear layers in 8 or 4 bits and, in eval mode on the CPU,
/// multiplies them with activations rounded to 8 bits. Embeddings and norms keep their dtype, and nothing is
/// calibrated. Quantised weights are neither saved nor trained; adapters beside them
/// (utils/peft) can be.
///
///     auto model = LlamaForCausalLM::from_pretrained("llama-2-7b");
///     quantize(model->base_model(), {.format = WeightFormat::kInt4, .group_size = 32});

#include <transformers/export.h>
#include <transformers/utils/nn/linear.h>

#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

enum class WeightFormat {
  kInt8,  // a scale for each row: value = q * scale
  kInt4,  // a scale and a zero point for each group of a row: value = (q - 8) * scale + zero
};

/// "int8" or "int4"; throws on any other name.
WeightFormat weight_format_from_name(const std::string& name);

/// What a layer multiplies its weights with.
enum class ActivationFormat {
  /// int8, rounded symmetrically by the largest value of a token, and with kInt4 of each group of a token. For products
  /// without gradients in eval mode on the CPU, with group sizes that are multiples of 8; others are those of kFloat.
  kInt8,
  kFloat,  // as they are
};

struct QuantizationOptions {
  WeightFormat format = WeightFormat::kInt8;
  int64_t group_size = 32;  // of kInt4; must divide the in_features of every layer
  ActivationFormat activations = ActivationFormat::kInt8;
  /// Layers that are not quantised: full names ("layers.0.mlp.up_proj"), their ends ("up_proj") or the names of modules
  /// that contain them ("layers.0").
  std::vector<std::string> modules_to_not_convert{};
};

/// The linear method of a frozen weight of 8 or 4 bits: values are rounded to nearest, int8 symmetrically by the
/// largest value of a row, int4 by the smallest and largest value of a group, with scales and zeros in bf16, as in
/// gpt-fast and torchao. Gradients flow to the input. For CPU and CUDA.
///
/// With rounded activations the CPU multiplies integers, and the weight is stored in the order in which the kernel
/// reads it. With others a few input rows are multiplied on the CPU with the quantised weight directly. Everything
/// else, and everything while kernels are switched off (utils/nn/kernels.h), goes through a dense copy that exists only
/// during the matmul.
class WeightOnlyLinear : public LinearMethod {
 public:
  /// weight: [out_features, in_features], floating. Throws when `group_size` does not divide in_features.
  WeightOnlyLinear(const torch::Tensor& weight, const QuantizationOptions& options);

  torch::Tensor forward(const LinearImpl& linear, const torch::Tensor& input) const override;
  /// The clone has its own copy of the weight, on the clone's device.
  std::shared_ptr<const LinearMethod> clone(const LinearImpl& copy, TensorCopies& copies) const override;

  /// The weight [out_features, in_features], in the given dtype or that of the original weight.
  torch::Tensor dequantized(std::optional<c10::ScalarType> dtype = std::nullopt) const;

  c10::Device device() const { return weight_.values.device(); }
  /// Bytes of values, scales and zeros as they are stored: the outputs may be rounded up to a multiple of 16.
  int64_t bytes() const override;

  struct Quantized {
    torch::Tensor values{};  // int8 [out, in], or two int4 per byte, the earlier one low: uint8 [out, in / 2]
    torch::Tensor scales{};  // fp32 [out], or bf16 [out, in / group_size]
    torch::Tensor zeros{};   // of kInt4, shaped as scales
  };
  /// The weight in this form, which the stored one can be converted to.
  Quantized quantized() const;

 private:
  torch::Tensor multiply_few_rows(const torch::Tensor& input) const;
  void multiply_slice(const torch::Tensor& rows, const torch::Tensor& sums, int64_t begin, int64_t end,
                      torch::Tensor& output) const;

  Quantized weight_;  // on the CPU, with rounded activations, interleaved for the kernel
  int64_t out_ = 0, in_ = 0;
  bool rounds_activations_ = false;  // where there is a kernel
  c10::ScalarType dtype_;
};

/// Gives every Linear in a module a `WeightOnlyLinear` and frees its weight: `weight` is then a meta tensor, so that
/// saving or moving the model throws. For inference, and as the frozen base of adapters (QLoRA). Like transformers, do
/// not quantise heads: `quantize(model->base_model(), options)`. Throws, changing nothing, on a layer that already has
/// a linear method, on a group size that does not divide a layer's in_features, and on a name in
/// `modules_to_not_convert` that matches no layer.
void quantize(torch::nn::Module& module, const QuantizationOptions& options = {});

/// Gives the layers dense weights again, with the values after rounding.
void dequantize(torch::nn::Module& module);

/// The weight that a layer multiplies with, [out, in]: its own, or the dequantised one.
torch::Tensor dense_weight(const LinearImpl& linear, const LinearMethod* method);

}  // namespace transformers
