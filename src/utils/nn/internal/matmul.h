#pragma once

#include <ATen/core/Tensor.h>

#include "utils/kernels/level.h"

/// Matmuls by the library's kernels where they are faster than LibTorch's operators, else by these. Sums of the kernels
/// are float32 and rounded once; they differ from LibTorch's by their order, not by the number of threads.
namespace transformers {

/// What the choice depends on besides the operands.
struct MatmulMachine {
  kernels::Level level;
  bool dnn_has_bfloat16, dnn_has_float16;  // whether oneDNN multiplies them here; LibTorch has plain loops for others

  /// The one that the process runs on.
  static const MatmulMachine& current();
};

enum class MatmulChoice {
  kLibTorch,
  kFewRows,   // straight from the weight's memory
  kManyRows,  // through packed panels
};

/// left [rows, inner] · right [inner, columns] in the dtype of both on the CPU.
struct MatmulShape {
  c10::ScalarType dtype;
  int64_t rows, inner, columns;
  bool right_by_columns;  // whether the elements of a column of `right` are neighbours, as those of a weight's row
};

/// What is fastest, as measured; while kernels are switched off that counts as LibTorch.
MatmulChoice matmul_choice(const MatmulMachine& machine, const MatmulShape& shape);

namespace functional {

/// `at::mm` [rows, inner] · [inner, columns]. Not recorded by autograd where a kernel is used.
at::Tensor mm(const at::Tensor& left, const at::Tensor& right);

/// `sum.addmm_(left, right)`, or without `adds` `sum` becomes the product. Not recorded by autograd.
void addmm_(at::Tensor& sum, const at::Tensor& left, const at::Tensor& right, bool adds);

/// `at::linear` with gradients, also under autocast. input: [..., in]; weight: [out, in]; bias: [out] or undefined.
/// With `training`, products of float32 may go to oneDNN, see dnn_linear_is_faster().
at::Tensor linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias, bool training);

}  // namespace functional

}  // namespace transformers
