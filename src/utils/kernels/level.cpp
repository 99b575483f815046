#include "utils/kernels/level.h"

#include <array>
#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

#ifdef TRANSFORMERS_KERNELS_X86
#include <cpuid.h>
#endif

namespace transformers::kernels {
namespace {

constexpr std::array kLevels{Level::kBaseline, Level::kAvx2, Level::kAvx512, Level::kAvx512Vnni};
constexpr const char* kVariable = "TRANSFORMERS_KERNELS";
constexpr std::string_view kLibTorch = "libtorch", kAuto = "auto";

#ifdef TRANSFORMERS_KERNELS_X86
/// The parts of x86-64-v3 that clang 14's __builtin_cpu_supports has no name for.
bool has_f16c_movbe_lzcnt() {
  constexpr unsigned kF16c = 1U << 29, kMovbe = 1U << 22, kLzcnt = 1U << 5;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  const bool has_both = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & kF16c) != 0 && (ecx & kMovbe) != 0;
  return has_both && __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) != 0 && (ecx & kLzcnt) != 0;
}

// __builtin_cpu_supports denies AVX and AVX-512 where the operating system does not save their registers (XCR0).
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2") && has_f16c_movbe_lzcnt();
}

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool has_avx512vnni() { return __builtin_cpu_supports("avx512vnni"); }
#else
bool has_avx2() { return false; }
bool has_avx512() { return false; }
bool has_avx512vnni() { return false; }
#endif

std::atomic<bool>& switched_on() {
  static std::atomic<bool> on = [] {
    const char* name = std::getenv(kVariable);
    return name == nullptr || name != kLibTorch;
  }();
  return on;
}

std::string names_up_to(Level highest) {
  std::string names;
  for (const auto level : kLevels) {
    if (level <= highest) {
      names += (names.empty() ? "" : ", ") + std::string(level_name(level));
    }
  }
  return names;
}

}  // namespace

const char* level_name(Level level) {
  switch (level) {
    case Level::kBaseline:
      return "baseline";
    case Level::kAvx2:
      return "avx2";
    case Level::kAvx512:
      return "avx512";
    case Level::kAvx512Vnni:
      return "avx512vnni";
  }
  return "unknown";
}

Level highest_level() {
  if (!has_avx2()) {
    return Level::kBaseline;
  }
  if (!has_avx512()) {
    return Level::kAvx2;
  }
  return has_avx512vnni() ? Level::kAvx512Vnni : Level::kAvx512;
}

Level level_from_name(const char* name, Level highest) {
  const std::string_view wanted = name == nullptr ? "" : name;
  if (wanted.empty() || wanted == kAuto || wanted == kLibTorch) {
    return highest;
  }
  for (const auto level : kLevels) {
    if (wanted == level_name(level) && level <= highest) {
      return level;
    }
  }
  throw std::invalid_argument(
      "the environment variable TRANSFORMERS_KERNELS must be auto, libtorch or a level that this machine has (" +
      names_up_to(highest) + "), got \"" + std::string(wanted) + "\"");
}

Level active_level() {
  static const Level level = level_from_name(std::getenv(kVariable), highest_level());
  return level;
}

bool enabled() { return switched_on(); }
void set_enabled(bool enabled) { switched_on() = enabled; }

}  // namespace transformers::kernels
