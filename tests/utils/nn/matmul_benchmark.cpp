// Compares two ways of a linear layer's matmul, called in turns with weights that are not in the cache; the best call
// counts. For a float dtype they are at::linear and the layer's; for int8 and int4 they are the quantised layer's with
// float and with rounded activations. Built on demand:
//
//     cmake --build --preset test --target matmul_benchmark
//     OMP_NUM_THREADS=1 build/test/tests/matmul_benchmark [float32|bfloat16|float16|int8|int4]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <transformers/utils/configuration/configuration_utils.h>
#include <transformers/utils/nn/kernels.h>
#include <transformers/utils/quantization/weight_only.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <limits>
#include <string>

#include "utils/nn/internal/matmul.h"

namespace transformers {
namespace {

constexpr int64_t kOut = 5632, kIn = 2048;
constexpr size_t kCopies = 6;  // more than a cache holds

/// Multiplies with the i-th copy of a weight.
using Way = std::function<void(const at::Tensor& input, size_t i)>;

struct Comparison {
  Way first, second;
  double bytes;  // of a weight
  c10::ScalarType dtype;
};

Comparison of_dtype(c10::ScalarType dtype) {
  std::vector<at::Tensor> weights;
  for (size_t i = 0; i < kCopies; ++i) {
    weights.push_back(at::randn({kOut, kIn}).to(dtype));
  }
  return {
      .first = [weights](const at::Tensor& x, size_t i) { at::linear(x, weights[i]); },
      .second = [weights](const at::Tensor& x, size_t i) { functional::linear(x, weights[i], {}, /*training=*/false); },
      .bytes = static_cast<double>(weights[0].nbytes()),
      .dtype = dtype};
}

Way quantized_way(const std::string& format, ActivationFormat activations, double& bytes) {
  std::vector<Linear> layers;
  for (size_t i = 0; i < kCopies; ++i) {
    const auto weight = at::randn({kOut, kIn}).to(at::kBFloat16);
    const QuantizationOptions options{.format = weight_format_from_name(format), .activations = activations};
    layers.emplace_back(weight, at::Tensor());
    layers.back()->set_method(std::make_shared<WeightOnlyLinear>(weight, options));
    layers.back()->eval();
  }
  bytes = static_cast<double>(layers[0]->method()->bytes());
  return [layers](const at::Tensor& x, size_t i) mutable { layers[i](x); };
}

Comparison of_format(const std::string& format) {
  Comparison comparison{.first = {}, .second = {}, .bytes = 0, .dtype = at::kBFloat16};
  comparison.first = quantized_way(format, ActivationFormat::kFloat, comparison.bytes);
  comparison.second = quantized_way(format, ActivationFormat::kInt8, comparison.bytes);
  return comparison;
}

double seconds(const Way& way, const at::Tensor& input, size_t i) {
  const auto start = std::chrono::steady_clock::now();
  way(input, i % kCopies);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void measure(const Comparison& comparison, int64_t rows) {
  const auto input = at::randn({rows, kIn}).to(comparison.dtype);
  double first = std::numeric_limits<double>::infinity(), second = first;
  const size_t calls = rows < 64 ? 18 : 5;
  for (size_t call = 0; call < calls; ++call) {
    first = std::min(first, seconds(comparison.first, input, 2 * call));
    second = std::min(second, seconds(comparison.second, input, 2 * call + 1));
  }
  const auto operations = 2.0 * static_cast<double>(rows * kOut * kIn);
  std::printf("%4lld %12.1f GB/s %5.0f G/s %12.1f GB/s %5.0f G/s\n", static_cast<long long>(rows),
              comparison.bytes / first / 1e9, operations / first / 1e9, comparison.bytes / second / 1e9,
              operations / second / 1e9);
}

void run(const std::string& name) {
  const at::NoGradGuard no_grad;
  const auto comparison = name == "int8" || name == "int4" ? of_format(name) : of_dtype(dtype_from_name(name));
  std::printf("%s, kernels: %s, %d threads: bytes of weights and operations a second\n", name.c_str(), kernels_in_use(),
              at::get_num_threads());
  for (const int64_t rows : {1, 2, 4, 8, 16, 32, 64, 128, 512}) {
    measure(comparison, rows);
  }
}

}  // namespace
}  // namespace transformers

int main(int argc, char** argv) { transformers::run(argc > 1 ? argv[1] : "bfloat16"); }
