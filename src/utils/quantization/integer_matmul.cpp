#include <ATen/ATen.h>

#include "utils/kernels/integer.h"
#include "utils/nn/internal/matrix_rows.h"
#include "utils/nn/internal/parallel_for.h"
#include "utils/quantization/stored_weight.h"

namespace transformers {
namespace {

/// Rows of activations and the tensors that hold them.
struct Activations {
  at::Tensor values, scales, sums;
  kernels::IntegerRows rows;

  /// x: [rows, in] of float32; `padded` inputs in groups.
  Activations(const at::Tensor& x, int64_t padded, int64_t group)
      : values(at::empty({x.size(0), padded}, at::kChar)),
        scales(at::empty({x.size(0), padded / group}, at::kFloat)),
        sums(at::empty({x.size(0), padded / group}, at::kInt)),
        rows{.values = values.mutable_data_ptr<int8_t>(),
             .scales = scales.mutable_data_ptr<float>(),
             .sums = sums.mutable_data_ptr<int32_t>(),
             .rows = x.size(0),
             .in = padded,
             .group = group} {
    const auto* from = x.const_data_ptr<float>();
    const auto in = x.size(1), grain_size = std::max<int64_t>(1, 32768 / padded);
    parallel_for(0, rows.rows, grain_size, [&](int64_t begin, int64_t end) {
      kernels::integer_kernels().quantize_rows(from, in, rows, begin, end);
    });
  }
};

const kernels::BFloat16Bits* bits_of(const at::Tensor& tensor) {
  return static_cast<const kernels::BFloat16Bits*>(tensor.const_data_ptr());
}

}  // namespace

at::Tensor integer_matmul(const QuantizedWeight& weight, int64_t out, const at::Tensor& input) {
  const auto in = input.size(-1), blocks = weight.values.size(0);
  const bool is_int8 = !weight.zeros.defined();
  const auto padded = weight.values.size(1) * (is_int8 ? kernels::kInt8Inputs : kernels::kInt4Inputs);
  const auto x = input.to(at::kFloat).reshape({-1, in}).contiguous();
  const Activations activations(x, padded, is_int8 ? padded : padded / weight.scales.size(1));
  auto output = at::empty({x.size(0), out}, x.options());
  auto* y = output.mutable_data_ptr<float>();
  const auto& table = kernels::integer_kernels();
  parallel_for(0, blocks, 4, [&](int64_t begin, int64_t end) {
    if (is_int8) {
      const auto* values = weight.values.const_data_ptr<int8_t>();
      table.int8_blocks(activations.rows, {values, weight.scales.const_data_ptr<float>(), out}, begin, end, y);
    } else {
      const auto* values = weight.values.const_data_ptr<uint8_t>();
      table.int4_blocks(activations.rows, {values, bits_of(weight.scales), bits_of(weight.zeros), out}, begin, end, y);
    }
  });
  return rows_in_shape(output, input.sizes());
}

}  // namespace transformers
