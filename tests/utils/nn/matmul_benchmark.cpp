// Compares the matmul of a linear layer with at::linear. Both are called in turns, with weights that are not in the
// cache, and the best call counts. Built on demand:
//
//     cmake --build --preset test --target matmul_benchmark
//     OMP_NUM_THREADS=1 build/test/tests/matmul_benchmark [float32|bfloat16|float16]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <transformers/utils/configuration/configuration_utils.h>
#include <transformers/utils/nn/kernels.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>

#include "utils/nn/internal/matmul.h"

namespace transformers {
namespace {

constexpr int64_t kOut = 5632, kIn = 2048;

template <typename Call>
double seconds(const Call& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Best {
  double libtorch = std::numeric_limits<double>::infinity(), layer = libtorch;
};

Best measure(const std::vector<at::Tensor>& weights, const at::Tensor& input, size_t calls) {
  Best best;
  for (size_t call = 0; call < calls; ++call) {
    const auto& first = weights[2 * call % weights.size()];
    const auto& second = weights[(2 * call + 1) % weights.size()];
    best.libtorch = std::min(best.libtorch, seconds([&] { at::linear(input, first); }));
    best.layer = std::min(best.layer, seconds([&] { functional::linear(input, second, {}, /*training=*/false); }));
  }
  return best;
}

void run(c10::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> weights;
  for (int i = 0; i < 6; ++i) {
    weights.push_back(at::randn({kOut, kIn}).to(dtype));
  }
  std::printf("%s, kernels: %s, %d threads\nrows   at::linear GB/s GFLOP/s   layer GB/s GFLOP/s\n",
              dtype_name(dtype).c_str(), kernels_in_use(), at::get_num_threads());
  for (const int64_t rows : {1, 2, 4, 8, 16, 32, 64, 128, 512}) {
    const auto best = measure(weights, at::randn({rows, kIn}).to(dtype), rows < 64 ? 18 : 5);
    const auto bytes = static_cast<double>(weights[0].nbytes()) / 1e9;
    const auto operations = 2.0 * static_cast<double>(rows * kOut * kIn) / 1e9;
    std::printf("%4lld %17.1f %7.0f %12.1f %7.0f\n", static_cast<long long>(rows), bytes / best.libtorch,
                operations / best.libtorch, bytes / best.layer, operations / best.layer);
  }
}

}  // namespace
}  // namespace transformers

int main(int argc, char** argv) { transformers::run(transformers::dtype_from_name(argc > 1 ? argv[1] : "bfloat16")); }
