#pragma once

namespace transformers::kernels {

/// The instruction sets that the kernels are compiled for, in ascending order. On machines other than x86-64 there is
/// only the baseline, which is the instruction set that the library itself is compiled for.
enum class Level {
  kBaseline,
  kAvx2,        // x86-64-v3: AVX2, FMA, F16C, BMI
  kAvx512,      // x86-64-v4: AVX-512 F, BW, CD, DQ, VL
  kAvx512Vnni,  // and AVX-512 VNNI, for integer matmuls
};

/// `baseline`, `avx2`, `avx512` or `avx512vnni`.
const char* level_name(Level level);

/// The highest level that both this build and this machine support. A level counts only if the operating system saves
/// its registers.
Level highest_level();

/// The level that `name`, the value of TRANSFORMERS_KERNELS, asks for; `highest` if it is null, empty, `auto` or
/// `libtorch`. Throws std::invalid_argument on an unknown name and on a level above `highest`.
Level level_from_name(const char* name, Level highest);

/// The level that the library uses: the highest, or the one that the environment variable TRANSFORMERS_KERNELS names.
/// Chosen at the first call.
Level active_level();

/// Whether kernels are used at all where LibTorch's operators could do the same. Callers ask at each operation. Off
/// from the start if TRANSFORMERS_KERNELS is `libtorch`.
bool enabled();
void set_enabled(bool enabled);

}  // namespace transformers::kernels
