// The training kernels compiled for x86-64-v3 (AVX2, FMA, F16C, BMI).
#include "utils/kernels/generic/training_kernels.h"

namespace transformers::kernels::avx2 {

constinit const TrainingTables kTraining = kTrainingTables;

}  // namespace transformers::kernels::avx2
