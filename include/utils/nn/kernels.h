#pragma once

#include <transformers/export.h>

namespace TRANSFORMERS_API transformers {

/// Whether the library computes with kernels of its own where they are faster than LibTorch's operators, which is so
/// from the start. Without them everything on the CPU is done by the operators that Python's `transformers` calls, for
/// comparisons bit by bit; with them sums are added up in another order. Takes effect in the whole process at the next
/// operation. The environment variable TRANSFORMERS_KERNELS with the value `libtorch` switches them off at the start.
void set_kernels(bool enabled);

/// The instruction set that the kernels in use are compiled for: `baseline`, `avx2`, `avx512` or `avx512vnni`;
/// `libtorch` where they are switched off. Throws c10::Error where TRANSFORMERS_KERNELS names a level that this machine
/// lacks.
const char* kernels_in_use();

}  // namespace transformers
