// The training kernels compiled for what the library itself is compiled for.
#include "utils/kernels/generic/training_kernels.h"

namespace transformers::kernels::baseline {

constinit const TrainingTables kTraining = kTrainingTables;

}  // namespace transformers::kernels::baseline
