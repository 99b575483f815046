#pragma once

#include "utils/nn/internal/matmul.h"

namespace transformers {

/// left · right + bias by a kernel; `choice` is not kLibTorch, and as kFewRows only for a `right` by columns. All are
/// of one dtype, dense and on the CPU. left: [rows, inner]; right: [inner, columns]; bias: [columns] or undefined.
at::Tensor kernel_matmul(MatmulChoice choice, const at::Tensor& left, const at::Tensor& right, const at::Tensor& bias);

}  // namespace transformers
