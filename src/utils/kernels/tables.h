#pragma once

#include "utils/kernels/kernels.h"

/// The tables that the sources compiled for one instruction set export; kernels.cpp chooses among them. All are
/// constant-initialised: a start-up function in such a source would run on machines that lack its instructions.
namespace transformers::kernels {

struct TrainingTables {
  TrainingKernels<float> of_float;
  TrainingKernels<BFloat16Bits> of_bfloat16;
};

namespace baseline {
extern const TrainingTables kTraining;
extern const QuantizedKernels kQuantized;
}  // namespace baseline

namespace avx2 {
extern const TrainingTables kTraining;
extern const QuantizedKernels kQuantized;
}  // namespace avx2

namespace avx512 {
extern const TrainingTables kTraining;
extern const QuantizedKernels kQuantized;
}  // namespace avx512

}  // namespace transformers::kernels
