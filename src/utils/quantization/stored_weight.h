#pragma once

#include <transformers/utils/quantization/weight_only.h>

/// How a quantised weight lies in memory. The plain form is that of `WeightOnlyLinear::Quantized`. The interleaved one
/// is what the integer kernels read (utils/kernels/integer.h): values [out / 16, in / 4, 16, 4] of int8, or
/// [out / 16, in / 8, 16, 4] bytes of two int4; fp32 scales [out], or bf16 scales and zeros [out / 16, groups, 16].
/// Outputs are rounded up to a multiple of 16, the inputs of int8 to one of 4.
namespace transformers {

using QuantizedWeight = WeightOnlyLinear::Quantized;

inline bool is_interleaved(const QuantizedWeight& weight) { return weight.values.dim() == 4; }

/// Whether the integer kernels take a weight with so many inputs.
bool can_be_interleaved(const QuantizationOptions& options, int64_t in);

/// Rounds a weight [out, in] on any device. Throws where a value is not finite.
QuantizedWeight quantized_weight(const at::Tensor& weight, const QuantizationOptions& options, bool interleaved);

/// The other forms of a stored weight [out, in].
QuantizedWeight plain(const QuantizedWeight& weight, int64_t out, int64_t in);
QuantizedWeight interleaved(const QuantizedWeight& weight);
at::Tensor dense(const QuantizedWeight& weight, int64_t out, int64_t in, c10::ScalarType dtype);

/// input [..., in] · weightᵀ on the CPU, with the input rounded to int8 by rows, or for int4 by the weight's groups.
/// Float32 [..., out].
at::Tensor integer_matmul(const QuantizedWeight& weight, int64_t out, const at::Tensor& input);

}  // namespace transformers
