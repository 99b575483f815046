// The kernels' matmuls on tensors: scratch memory and the split over threads.
#include "utils/nn/kernel_matmul.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "utils/kernels/matmul.h"
#include "utils/nn/internal/parallel_for.h"

namespace transformers {
namespace {

using kernels::BFloat16Bits;
using kernels::Float16Bits;
using kernels::MatmulKernels;
using kernels::Matrix;

/// Memory that a thread keeps, so that decoding allocates none for each product.
class Scratch {
 public:
  /// Aligned to a cache line; what was in it is lost.
  float* of_size(int64_t count) {
    constexpr int64_t kLine = 64, kFloats = kLine / sizeof(float);
    if (count > size_) {
      size_ = (count + kFloats - 1) / kFloats * kFloats;
      memory_.reset(static_cast<float*>(std::aligned_alloc(kLine, static_cast<size_t>(size_) * sizeof(float))));
      TORCH_CHECK_WITH(OutOfMemoryError, memory_ != nullptr, "no memory for ", size_, " floats of a matmul");
    }
    return memory_.get();
  }

 private:
  struct Free {
    void operator()(float* memory) const { std::free(memory); }
  };
  std::unique_ptr<float, Free> memory_;
  int64_t size_ = 0;
};

template <typename T>
const T* data(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<const T*>(tensor.const_data_ptr()) : nullptr;
}

template <typename T>
Matrix<T> matrix(const at::Tensor& tensor) {
  return {data<T>(tensor), tensor.size(0), tensor.size(1), tensor.stride(0), tensor.stride(1)};
}

/// The rows of `left` as the kernel for few of them reads them.
template <typename T>
const float* to_float_rows(const MatmulKernels<T>& table, const Matrix<T>& left, Scratch& scratch) {
  constexpr int64_t kPadding = kernels::kFewRowsPadding;
  const int64_t line = (left.columns + kPadding - 1) / kPadding * kPadding;
  float* rows = scratch.of_size(left.rows * line);
  for (int64_t row = 0; row < left.rows; ++row) {
    table.to_float(left.data + row * left.row_stride, left.columns, rows + row * line);
    std::fill(rows + row * line + left.columns, rows + (row + 1) * line, 0.0F);
  }
  return rows;
}

template <typename T>
void multiply_few_rows(const at::Tensor& left, const at::Tensor& right, const at::Tensor& bias, const at::Tensor& y) {
  constexpr int64_t kWeightsWorthAThread = 1 << 15;
  thread_local Scratch scratch;
  const auto& table = kernels::matmul_kernels<T>();
  const auto by_rows = left.stride(1) == 1 ? left : left.contiguous();
  const auto x = matrix<T>(by_rows);
  const kernels::FewRows<T> product{.x = to_float_rows(table, x, scratch),
                                    .rows = x.rows,
                                    .in = x.columns,
                                    .weight = data<T>(right),
                                    .weight_stride = right.stride(1),
                                    .bias = data<T>(bias),
                                    .y = static_cast<T*>(y.mutable_data_ptr()),
                                    .y_stride = y.size(1)};
  parallel_for(0, y.size(1), std::max<int64_t>(1, kWeightsWorthAThread / std::max<int64_t>(1, x.columns)),
               [&](int64_t begin, int64_t end) { table.few_rows(product, begin, end); });
}

/// The outputs as tasks: chunks of columns, and of panels of rows where there are fewer columns than threads need.
struct Tasks {
  int64_t panels, columns, width, column_chunks, panel_chunks;

  Tasks(int64_t all_panels, int64_t all_columns) : panels(all_panels), columns(all_columns) {
    constexpr int64_t kNarrowest = 32, kWidest = 128;
    const int64_t threads = at::get_num_threads();
    const auto share = ((columns + threads - 1) / threads + kNarrowest - 1) / kNarrowest * kNarrowest;
    width = std::clamp(share, kNarrowest, kWidest);
    column_chunks = (columns + width - 1) / width;
    panel_chunks = std::clamp<int64_t>((threads + column_chunks - 1) / column_chunks, 1, panels);
  }

  int64_t count() const { return column_chunks * panel_chunks; }

  kernels::Block block(int64_t task) const {
    const auto column = task / panel_chunks * width, chunk = task % panel_chunks;
    return {chunk * panels / panel_chunks, (chunk + 1) * panels / panel_chunks, column,
            std::min(columns, column + width)};
  }
};

template <typename T>
void multiply_many_rows(const at::Tensor& left, const at::Tensor& right, const at::Tensor& bias, const at::Tensor& y) {
  const auto& table = kernels::matmul_kernels<T>();
  const auto x = matrix<T>(left);
  const auto packed = at::empty({x.rows * x.columns}, left.options().dtype(at::kFloat));
  auto* packed_rows = static_cast<float*>(packed.mutable_data_ptr());
  const auto panels = table.panels(x.rows);
  parallel_for(0, panels, 1, [&](int64_t begin, int64_t end) { table.pack_left(x, begin, end, packed_rows); });
  const kernels::ManyRows<T> product{.left = packed_rows,
                                     .rows = x.rows,
                                     .right = matrix<T>(right),
                                     .bias = data<T>(bias),
                                     .y = static_cast<T*>(y.mutable_data_ptr()),
                                     .y_stride = y.size(1)};
  const Tasks tasks(panels, y.size(1));
  parallel_for(0, tasks.count(), 1, [&](int64_t begin, int64_t end) {
    thread_local Scratch scratch;
    auto* workspace = scratch.of_size(table.workspace_size);
    for (auto task = begin; task < end; ++task) {
      table.many_rows(product, tasks.block(task), workspace);
    }
  });
}

template <typename T>
void multiply(MatmulChoice choice, const at::Tensor& left, const at::Tensor& right, const at::Tensor& bias,
              const at::Tensor& y) {
  choice == MatmulChoice::kFewRows ? multiply_few_rows<T>(left, right, bias, y)
                                   : multiply_many_rows<T>(left, right, bias, y);
}

}  // namespace

at::Tensor kernel_matmul(MatmulChoice choice, const at::Tensor& left, const at::Tensor& right, const at::Tensor& bias) {
  auto y = at::empty({left.size(0), right.size(1)}, left.options());
  const auto dense_bias = bias.defined() ? bias.contiguous() : bias;
  switch (left.scalar_type()) {
    case at::kFloat:
      multiply<float>(choice, left, right, dense_bias, y);
      break;
    case at::kBFloat16:
      multiply<BFloat16Bits>(choice, left, right, dense_bias, y);
      break;
    default:
      multiply<Float16Bits>(choice, left, right, dense_bias, y);
  }
  return y;
}

}  // namespace transformers
