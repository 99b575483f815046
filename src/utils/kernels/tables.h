#pragma once

#include "utils/kernels/integer.h"
#include "utils/kernels/kernels.h"
#include "utils/kernels/matmul.h"

/// The tables that the sources compiled for one instruction set export; kernels.cpp chooses among them. All are
/// constant-initialised: a start-up function in such a source would run on machines that lack its instructions.
namespace transformers::kernels {

struct TrainingTables {
  TrainingKernels<float> of_float;
  TrainingKernels<BFloat16Bits> of_bfloat16;
};

struct MatmulTables {
  MatmulKernels<float> of_float;
  MatmulKernels<BFloat16Bits> of_bfloat16;
  MatmulKernels<Float16Bits> of_float16;
};

namespace baseline {
extern const TrainingTables kTraining;
extern const QuantizedKernels kQuantized;
extern const MatmulTables kMatmul;
extern const IntegerKernels kInteger;
}  // namespace baseline

namespace avx2 {
extern const TrainingTables kTraining;
extern const QuantizedKernels kQuantized;
extern const MatmulTables kMatmul;
extern const IntegerKernels kInteger;
}  // namespace avx2

namespace avx512 {
extern const TrainingTables kTraining;
extern const QuantizedKernels kQuantized;
extern const MatmulTables kMatmul;
extern const IntegerKernels kInteger;
}  // namespace avx512

namespace avx512vnni {
extern const IntegerKernels kInteger;
}  // namespace avx512vnni

}  // namespace transformers::kernels
