#include "utils/kernels/kernels.h"

#include <type_traits>

#include "utils/kernels/tables.h"

namespace transformers::kernels {
namespace {

template <typename Table>
struct Choice {
  const Table &baseline, &avx2, &avx512, &avx512vnni = avx512;

  const Table& of(Level level) const {
    switch (level) {
      case Level::kAvx2:
        return avx2;
      case Level::kAvx512:
        return avx512;
      case Level::kAvx512Vnni:
        return avx512vnni;
      default:
        return baseline;
    }
  }
};

#ifdef TRANSFORMERS_KERNELS_X86
constexpr Choice<TrainingTables> kTraining{baseline::kTraining, avx2::kTraining, avx512::kTraining};
constexpr Choice<QuantizedKernels> kQuantized{baseline::kQuantized, avx2::kQuantized, avx512::kQuantized};
constexpr Choice<MatmulTables> kMatmul{baseline::kMatmul, avx2::kMatmul, avx512::kMatmul};
constexpr Choice<IntegerKernels> kInteger{baseline::kInteger, avx2::kInteger, avx512::kInteger, avx512vnni::kInteger};
#else
constexpr Choice<TrainingTables> kTraining{baseline::kTraining, baseline::kTraining, baseline::kTraining};
constexpr Choice<QuantizedKernels> kQuantized{baseline::kQuantized, baseline::kQuantized, baseline::kQuantized};
constexpr Choice<MatmulTables> kMatmul{baseline::kMatmul, baseline::kMatmul, baseline::kMatmul};
constexpr Choice<IntegerKernels> kInteger{baseline::kInteger, baseline::kInteger, baseline::kInteger};
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
const IntegerKernels& integer_kernels(Level level) { return kInteger.of(level); }

template <typename T>
const MatmulKernels<T>& matmul_kernels(Level level) {
  const auto& tables = kMatmul.of(level);
  if constexpr (std::is_same_v<T, float>) {
    return tables.of_float;
  } else if constexpr (std::is_same_v<T, BFloat16Bits>) {
    return tables.of_bfloat16;
  } else {
    return tables.of_float16;
  }
}

template const MatmulKernels<float>& matmul_kernels<float>(Level level);
template const MatmulKernels<BFloat16Bits>& matmul_kernels<BFloat16Bits>(Level level);
template const MatmulKernels<Float16Bits>& matmul_kernels<Float16Bits>(Level level);

}  // namespace transformers::kernels
