// Some hypervisors report AMX in CPUID leaf 7 but hide leaf 0x1D, from which oneDNN reads the tile palette. oneDNN then
// configures no tiles, and every bf16 matmul ends the process with SIGILL, in Python too. oneDNN reads its environment
// at its first matmul, so the instruction set is limited when the library is loaded; a value that the user has set is
// kept.
#include "utils/nn/amx_guard.h"

#ifdef __x86_64__
#include <cpuid.h>
#endif

#include <cstdlib>

namespace transformers {
namespace {

bool amx_is_reported_without_tiles() {
#ifdef __x86_64__
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned kAmxTile = 1U << 24;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (edx & kAmxTile) == 0) {
    return false;
  }
  return __get_cpuid_count(0x1D, 0, &eax, &ebx, &ecx, &edx) == 0 || eax == 0;
#else
  return false;
#endif
}

}  // namespace

[[gnu::constructor]] void bound_instruction_set() {
  if (amx_is_reported_without_tiles()) {
    setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16", /*overwrite=*/0);
  }
}

}  // namespace transformers
