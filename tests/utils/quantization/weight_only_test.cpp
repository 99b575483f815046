#include <ATen/ATen.h>
#include <transformers/utils/nn/autocast.h>
#include <transformers/utils/quantization/weight_only.h>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

const std::vector<QuantizationOptions> kFormats{{.format = WeightFormat::kInt8},
                                                {.format = WeightFormat::kInt4, .group_size = 16}};

/// A layer of random weights and its method.
struct Layer {
  Linear linear;
  std::shared_ptr<const WeightOnlyLinear> method;

  explicit Layer(const QuantizationOptions& options, c10::ScalarType dtype = at::kFloat, int64_t in = 48,
                 int64_t out = 70)
      : linear(at::randn({out, in}).to(dtype), at::randn({out}).to(dtype)),
        method(std::make_shared<WeightOnlyLinear>(linear->weight, options)) {
    linear->set_method(method);
  }
  at::Tensor dense(const at::Tensor& input) const {
    return at::linear(input, method->dequantized(input.scalar_type()), linear->bias);
  }
};

TEST(WeightOnlyLinearTest, RoundsAsTorchDoes) {
  for (const auto& golden : golden_cases("quantization", "weights")) {
    SCOPED_TRACE(golden.name);
    const auto weight = golden.tensor("weight");
    const auto rounded = [&](const QuantizationOptions& options) {
      return WeightOnlyLinear(weight, options).dequantized();
    };
    EXPECT_TENSORS_EQUAL(rounded({.format = WeightFormat::kInt8}), golden.tensor("int8"));
    EXPECT_TENSORS_EQUAL(rounded({.format = WeightFormat::kInt4, .group_size = 32}), golden.tensor("int4_32"));
    EXPECT_TENSORS_EQUAL(rounded({.format = WeightFormat::kInt4, .group_size = 16}), golden.tensor("int4_16"));
  }
}

TEST(WeightOnlyLinearTest, MultipliesFewRowsAndManyLikeItsDenseCopy) {
  at::manual_seed(0);
  for (const auto& options : kFormats) {
    const Layer layer(options);
    for (const int64_t rows : {1, 2, 4, 5, 33}) {
      const auto input = at::randn({rows, 48});
      EXPECT_TRUE(tensors_close_to_largest(layer.linear(input).detach(), layer.dense(input).detach(), 1e-6));
    }
    EXPECT_EQ(layer.linear(at::randn({2, 2, 48})).sizes(), (at::IntArrayRef{2, 2, 70}));
    EXPECT_EQ(layer.linear(at::randn({48})).sizes(), at::IntArrayRef{70});
    EXPECT_EQ(layer.linear(at::randn({0, 48})).sizes(), (at::IntArrayRef{0, 70}));
  }
}

TEST(WeightOnlyLinearTest, MultipliesHalvesWithinTheirRounding) {
  at::manual_seed(0);
  for (const auto& options : kFormats) {
    for (const auto dtype : {at::kBFloat16, at::kHalf}) {
      const Layer layer(options, dtype);
      for (const int64_t rows : {1, 9}) {
        const auto input = at::randn({rows, 48}).to(dtype);
        const auto exact =
            at::linear(input.to(at::kFloat), layer.method->dequantized(at::kFloat), layer.linear->bias.to(at::kFloat));
        const auto output = layer.linear(input).detach();
        EXPECT_EQ(output.scalar_type(), dtype);
        // Two roundings of the result, and in the dense copy one of each weight.
        EXPECT_TRUE(
            tensors_close_to_largest(output.to(at::kFloat), exact.detach(), dtype == at::kHalf ? 2e-3 : 1.6e-2));
      }
    }
  }
}

TEST(WeightOnlyLinearTest, GradientsReachTheInputAsThroughItsDenseCopy) {
  at::manual_seed(0);
  for (const auto& options : kFormats) {
    const Layer layer(options);
    const auto input = at::randn({3, 2, 48}).requires_grad_(), twin = input.detach().clone().requires_grad_();
    const auto weights = at::randn({3, 2, 70});
    (layer.linear(input) * weights).sum().backward();
    (layer.dense(twin) * weights).sum().backward();
    EXPECT_TRUE(tensors_close_to_largest(input.grad(), twin.grad(), 1e-6));
    EXPECT_FALSE(layer.linear->weight.grad().defined());
  }
}

TEST(WeightOnlyLinearTest, RunsInAutocastsDtype) {
  for (const auto& options : kFormats) {
    const Layer layer(options);
    const AutocastGuard autocast(c10::kCPU, at::kBFloat16);
    const auto input = at::randn({6, 48}).requires_grad_();
    const auto output = layer.linear(input);
    EXPECT_EQ(output.scalar_type(), at::kBFloat16);
    EXPECT_EQ(layer.linear(input.detach()[0]).scalar_type(), at::kBFloat16);
    output.sum().backward();
    EXPECT_EQ(input.grad().scalar_type(), at::kFloat);
  }
}

TEST(WeightOnlyLinearTest, HoldsNoMoreThanItsBits) {
  const auto weight = at::randn({64, 128});
  EXPECT_EQ(WeightOnlyLinear(weight, {.format = WeightFormat::kInt8}).bytes(), 64 * 128 + 64 * 4);
  EXPECT_EQ(WeightOnlyLinear(weight, {.format = WeightFormat::kInt4, .group_size = 32}).bytes(), 64 * 64 + 64 * 4 * 4);
}

TEST(WeightOnlyLinearTest, RefusesWhatItCannotRound) {
  EXPECT_ERROR(WeightOnlyLinear(at::zeros({4}), {}), "floating matrix", "[4]");
  EXPECT_ERROR(WeightOnlyLinear(at::zeros({4, 4}, at::kLong), {}), "floating matrix", "Long");
  EXPECT_ERROR(WeightOnlyLinear(at::full({4, 4}, NAN), {}), "not finite");
  EXPECT_ERROR(WeightOnlyLinear(at::zeros({4, 20}), {.format = WeightFormat::kInt4, .group_size = 16}), "group_size",
               "20", "16");
  EXPECT_ERROR(weight_format_from_name("int2"), "int8, int4", "int2");
  const Layer layer(kFormats[0]);
  EXPECT_ERROR(layer.linear(at::zeros({2, 47})), "48 features", "[2, 47]");
}

}  // namespace
}  // namespace transformers::testing
