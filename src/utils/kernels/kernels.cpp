#include "utils/kernels/kernels.h"

#include <type_traits>

#include "utils/kernels/tables.h"

namespace transformers::kernels {
namespace {

template <typename Table>
struct Choice {
  const Table &baseline, &avx2, &avx512;

  const Table& of(Level level) const {
    switch (level) {
      case Level::kAvx2:
        return avx2;
      case Level::kAvx512:
        return avx512;
      default:
        return baseline;
    }
  }
};

#ifdef TRANSFORMERS_KERNELS_X86
constexpr Choice<TrainingTables> kTraining{baseline::kTraining, avx2::kTraining, avx512::kTraining};
constexpr Choice<QuantizedKernels> kQuantized{baseline::kQuantized, avx2::kQuantized, avx512::kQuantized};
#else
constexpr Choice<TrainingTables> kTraining{baseline::kTraining, baseline::kTraining, baseline::kTraining};
constexpr Choice<QuantizedKernels> kQuantized{baseline::kQuantized, baseline::kQuantized, baseline::kQuantized};
#endif

}  // namespace

template <typename T>
const TrainingKernels<T>& training_kernels(Level level) {
  const auto& tables = kTraining.of(level);
  if constexpr (std::is_same_v<T, float>) {
    return tables.of_float;
  } else {
    return tables.of_bfloat16;
  }
}

template const TrainingKernels<float>& training_kernels<float>(Level level);
template const TrainingKernels<BFloat16Bits>& training_kernels<BFloat16Bits>(Level level);

const QuantizedKernels& quantized_kernels(Level level) { return kQuantized.of(level); }

}  // namespace transformers::kernels
