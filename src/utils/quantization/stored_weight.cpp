// int4 follows group-wise quantisation of gpt-fast (quantize.py, get_group_qparams) and torchao.
#include "utils/quantization/stored_weight.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "utils/kernels/integer.h"
#include "utils/nn/internal/parallel_for.h"

namespace transformers {
namespace {

constexpr int64_t kBlock = kernels::kBlockOutputs;

constexpr const char* kNotFinite = "WeightOnlyLinear: the weight holds a value that is not finite";

int64_t rounded_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

/// With zeros behind the last row and column.
at::Tensor padded(const at::Tensor& matrix, int64_t rows, int64_t columns) {
  const auto more_rows = rows - matrix.size(0), more_columns = columns - matrix.size(1);
  return more_rows + more_columns == 0 ? matrix : at::constant_pad_nd(matrix, {0, more_columns, 0, more_rows});
}

/// [rows, columns] to [rows / 16, columns, 16], and back.
at::Tensor in_blocks(const at::Tensor& matrix) {
  return padded(matrix, rounded_up(matrix.size(0), kBlock), matrix.size(1))
      .unflatten(0, {-1, kBlock})
      .transpose(1, 2)
      .contiguous();
}
at::Tensor out_of_blocks(const at::Tensor& blocks, int64_t rows) {
  return blocks.transpose(1, 2).flatten(0, 1).narrow(0, 0, rows);
}

/// The same of bytes, of which four are moved together.
at::Tensor words_in_blocks(const at::Tensor& bytes) {
  return in_blocks(bytes.contiguous().view(at::kInt)).unsqueeze(3).view(bytes.scalar_type());
}
at::Tensor words_out_of_blocks(const at::Tensor& blocks, int64_t rows) {
  return out_of_blocks(blocks.view(at::kInt).squeeze(3), rows).contiguous().view(blocks.scalar_type());
}

/// Packs [rows, 2 · n] int4 codes into bytes: the two of a pair are `apart`, the first one in the low half.
at::Tensor packed(const at::Tensor& codes, int64_t apart) {
  const auto pairs = codes.unflatten(1, {-1, 2, apart});
  return pairs.select(2, 0).bitwise_or(pairs.select(2, 1).bitwise_left_shift(4)).flatten(1);
}
at::Tensor unpacked(const at::Tensor& bytes, int64_t apart) {
  const auto parts = bytes.unflatten(1, {-1, apart});
  return at::stack({parts.bitwise_and(15), parts.bitwise_right_shift(4)}, 2).flatten(1);
}

constexpr int64_t kPlainApart = 1, kInterleavedApart = kernels::kInt4Inputs / 2;

QuantizedWeight to_int8(const at::Tensor& weight) {
  const auto largest = weight.abs().amax(1).clamp_min(std::numeric_limits<float>::min() * 127);
  const auto scales = largest / 127;
  return {(weight * scales.reciprocal().unsqueeze(1)).round_().clamp_(-127, 127).to(at::kChar), scales, {}};
}

QuantizedWeight to_int4(const at::Tensor& weight, int64_t group_size) {
  const auto groups = weight.unflatten(1, {-1, group_size});
  const auto smallest = groups.amin(2), largest = groups.amax(2);
  const auto range = (largest - smallest).clamp_min(1e-6) / 15;
  const auto scales = range.to(at::kBFloat16), zeros = (smallest + range * 8).to(at::kBFloat16);
  const auto scale = scales.to(at::kFloat), base = zeros.to(at::kFloat) - scale * 8;
  const auto codes = (groups - base.unsqueeze(2)).div_(scale.unsqueeze(2)).round_().clamp_(0, 15).to(at::kByte);
  return {packed(codes.flatten(1), kPlainApart), scales, zeros};
}

QuantizedWeight rounded(const at::Tensor& weight, const QuantizationOptions& options, bool in_kernel_form) {
  const auto values = weight.to(at::kFloat);
  TORCH_CHECK(values.isfinite().all().item<bool>(), kNotFinite);
  const auto result = options.format == WeightFormat::kInt8 ? to_int8(values) : to_int4(values, options.group_size);
  return in_kernel_form ? interleaved(result) : result;
}

/// Rounds rows of a weight on the CPU, with memory for some at a time.
class Slice {
 public:
  Slice(const at::Tensor& weight, const QuantizationOptions& options, int64_t rows)
      : weight_(weight),
        options_(options),
        values_(at::empty({rows, weight.size(1)}, at::kFloat)),
        codes_(at::empty({rows, weight.size(1)}, options.format == WeightFormat::kInt8 ? at::kChar : at::kByte)) {}

  QuantizedWeight rounded(int64_t first, int64_t rows, bool in_kernel_form) {
    auto values = values_.narrow(0, 0, rows);
    values.copy_(weight_.narrow(0, first, rows));
    const auto codes = codes_.narrow(0, 0, rows);
    return options_.format == WeightFormat::kInt8 ? int8(values, codes, in_kernel_form)
                                                  : int4(values, codes, in_kernel_form);
  }

 private:
  static QuantizedWeight int8(const at::Tensor& values, const at::Tensor& codes, bool in_kernel_form) {
    const auto rows = values.size(0), in = values.size(1);
    const auto scales = at::empty({rows}, at::kFloat);
    bool is_finite = true;
    for (int64_t row = 0; row < rows; ++row) {
      is_finite = kernels::integer_kernels().round_int8(values.const_data_ptr<float>() + row * in, in,
                                                        codes.mutable_data_ptr<int8_t>() + row * in,
                                                        scales.mutable_data_ptr<float>() + row) &&
                  is_finite;
    }
    TORCH_CHECK(is_finite, kNotFinite);
    return in_kernel_form ? interleaved({codes, scales, {}}) : QuantizedWeight{codes.clone(), scales, {}};
  }

  QuantizedWeight int4(const at::Tensor& values, const at::Tensor& codes, bool in_kernel_form) const {
    TORCH_CHECK(values.abs().max().item<float>() <= std::numeric_limits<float>::max(), kNotFinite);
    const auto group = options_.group_size;
    const auto scales = at::empty({values.size(0), values.size(1) / group}, at::kBFloat16);
    const auto zeros = at::empty_like(scales);
    auto* scale = static_cast<kernels::BFloat16Bits*>(scales.mutable_data_ptr());
    auto* zero = static_cast<kernels::BFloat16Bits*>(zeros.mutable_data_ptr());
    for (int64_t g = 0; g < scales.numel(); ++g) {
      kernels::integer_kernels().round_int4(values.const_data_ptr<float>() + g * group, group,
                                            codes.mutable_data_ptr<uint8_t>() + g * group, scale + g, zero + g);
    }
    if (!in_kernel_form) {
      return {packed(codes, kPlainApart), scales, zeros};
    }
    return {words_in_blocks(packed(codes, kInterleavedApart)), in_blocks(scales), in_blocks(zeros)};
  }

  const at::Tensor& weight_;
  const QuantizationOptions& options_;
  at::Tensor values_, codes_;
};

}  // namespace

bool can_be_interleaved(const QuantizationOptions& options, int64_t in) {
  const bool fits = options.format == WeightFormat::kInt8 || options.group_size % kernels::kInt4Inputs == 0;
  return fits && in > 0 && in <= kernels::kMaxIntegerInputs;
}

QuantizedWeight interleaved(const QuantizedWeight& weight) {
  if (!weight.zeros.defined()) {
    const auto out = rounded_up(weight.values.size(0), kBlock), in = weight.values.size(1);
    const auto values = padded(weight.values, weight.values.size(0), rounded_up(in, kernels::kInt8Inputs));
    return {words_in_blocks(values), at::constant_pad_nd(weight.scales, {0, out - weight.values.size(0)}), {}};
  }
  const auto values = packed(unpacked(weight.values, kPlainApart), kInterleavedApart);
  return {words_in_blocks(values), in_blocks(weight.scales), in_blocks(weight.zeros)};
}

QuantizedWeight plain(const QuantizedWeight& weight, int64_t out, int64_t in) {
  if (!is_interleaved(weight)) {
    return weight;
  }
  const auto values = words_out_of_blocks(weight.values, out);
  if (!weight.zeros.defined()) {
    return {values.narrow(1, 0, in).contiguous(), weight.scales.narrow(0, 0, out).clone(), {}};
  }
  return {packed(unpacked(values, kInterleavedApart), kPlainApart), out_of_blocks(weight.scales, out).contiguous(),
          out_of_blocks(weight.zeros, out).contiguous()};
}

at::Tensor dense(const QuantizedWeight& weight, int64_t out, int64_t in, c10::ScalarType dtype) {
  const auto stored = plain(weight, out, in);
  if (!stored.zeros.defined()) {
    return stored.values.to(at::kFloat).mul_(stored.scales.unsqueeze(1)).to(dtype);
  }
  const auto codes = unpacked(stored.values, kPlainApart);
  const auto groups = codes.view({out, stored.scales.size(1), -1}).to(at::kFloat).sub_(8);
  const auto scales = stored.scales.to(at::kFloat).unsqueeze(2), zeros = stored.zeros.to(at::kFloat).unsqueeze(2);
  return (groups * scales).add_(zeros).flatten(1).to(dtype);
}

// Slices of rows stay in the cache, and nothing but the result is as large as the weight.
QuantizedWeight quantized_weight(const at::Tensor& weight, const QuantizationOptions& options, bool interleaved) {
  if (!weight.is_cpu() || weight.numel() == 0) {
    return rounded(weight, options, interleaved);
  }
  constexpr int64_t kSlice = 4 * kBlock;
  const auto rows = weight.size(0), slices = (rows + kSlice - 1) / kSlice;
  std::vector<at::Tensor> values(static_cast<size_t>(slices)), scales(values.size()), zeros(values.size());
  parallel_for(0, slices, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;
    Slice slice(weight, options, std::min(kSlice, rows));
    for (int64_t i = begin; i < end; ++i) {
      const auto part = slice.rounded(i * kSlice, std::min(kSlice, rows - i * kSlice), interleaved);
      const auto at = static_cast<size_t>(i);
      values[at] = part.values, scales[at] = part.scales, zeros[at] = part.zeros;
    }
  });
  return {at::cat(values), at::cat(scales), zeros[0].defined() ? at::cat(zeros) : at::Tensor()};
}

}  // namespace transformers
