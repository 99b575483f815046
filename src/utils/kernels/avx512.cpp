// The training kernels compiled for x86-64-v4 (AVX-512).
#include "utils/kernels/generic/training_kernels.h"

namespace transformers::kernels::avx512 {

constinit const TrainingTables kTraining = kTrainingTables;

}  // namespace transformers::kernels::avx512
