#include <ATen/ATen.h>
#include <transformers/utils/nn/autocast.h>
#include <transformers/utils/nn/kernels.h>
#include <transformers/utils/quantization/weight_only.h>

#include <iostream>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"
#include "utils/kernels/level.h"

namespace transformers::testing {
namespace {

const std::vector<QuantizationOptions> kRounding{{.format = WeightFormat::kInt8},
                                                 {.format = WeightFormat::kInt4, .group_size = 16}};
const std::vector<QuantizationOptions> kFormats{
    {.format = WeightFormat::kInt8, .activations = ActivationFormat::kFloat},
    {.format = WeightFormat::kInt4, .group_size = 16, .activations = ActivationFormat::kFloat},
    kRounding[0],  // in training mode, which rounds no activations
    kRounding[1]};

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

class RoundedActivationsTest : public ::testing::Test {
 protected:
  void SetUp() override { set_kernels(true); }
  void TearDown() override { set_kernels(were_on_); }

 private:
  const bool were_on_ = kernels::enabled();
};

/// The activations as integer products see them.
at::Tensor rounded(const at::Tensor& input, const QuantizationOptions& options) {
  const auto is_int8 = options.format == WeightFormat::kInt8;
  const auto groups = is_int8 ? input.unsqueeze(-2) : input.unflatten(-1, {-1, options.group_size});
  const auto scales = groups.abs().amax(-1, /*keepdim=*/true) / 127;
  return ((groups / scales).round() * scales).flatten(-2);
}

at::Tensor without_gradients(const Layer& layer, const at::Tensor& input) {
  const at::NoGradGuard no_grad;
  return Linear(layer.linear)(input);
}

TEST_F(RoundedActivationsTest, InEvalModeMultipliesRoundedActivations) {
  at::manual_seed(0);
  for (const auto& options : kRounding) {
    for (const int64_t out : {5, 16, 70, 200}) {
      Layer layer(options, at::kFloat, 48, out);
      layer.linear->eval();
      for (const int64_t rows : {1, 2, 4, 5, 33}) {
        const auto input = at::randn({rows, 48});
        EXPECT_TRUE(tensors_close_to_largest(without_gradients(layer, input),
                                             layer.dense(rounded(input, options)).detach(), 1e-6));
      }
      EXPECT_EQ(without_gradients(layer, at::randn({2, 2, 48})).sizes(), (at::IntArrayRef{2, 2, out}));
      EXPECT_EQ(without_gradients(layer, at::randn({48})).sizes(), at::IntArrayRef{out});
      EXPECT_EQ(without_gradients(layer, at::randn({0, 48})).sizes(), (at::IntArrayRef{0, out}));
      EXPECT_EQ(without_gradients(layer, at::randn({3, 48}).to(at::kBFloat16)).scalar_type(), at::kBFloat16);
    }
  }
}

TEST_F(RoundedActivationsTest, CostLessThanAHundredthOfTheOutput) {
  at::manual_seed(0);
  for (const auto& options : kRounding) {
    Layer layer(options, at::kFloat, 512, 300);
    layer.linear->eval();
    const auto input = at::randn({20, 512}), exact = layer.dense(input).detach();
    const auto error = ((without_gradients(layer, input) - exact).norm() / exact.norm()).item<double>();
    std::cout << (options.format == WeightFormat::kInt8 ? "int8" : "int4") << " weights: error " << error << '\n';
    EXPECT_LT(error, 1e-2);
    EXPECT_GT(error, 0);
  }
}

TEST_F(RoundedActivationsTest, WithoutKernelsAndInTrainingModeActivationsAreNotRounded) {
  at::manual_seed(0);
  for (const auto& options : kRounding) {
    Layer layer(options);
    const auto input = at::randn({3, 48}), exact = layer.dense(input).detach();
    EXPECT_TRUE(tensors_close_to_largest(without_gradients(layer, input), exact, 1e-6));
    layer.linear->eval();
    EXPECT_FALSE(tensors_close_to_largest(without_gradients(layer, input), exact, 1e-6));
    set_kernels(false);
    EXPECT_TRUE(tensors_close_to_largest(without_gradients(layer, input), exact, 1e-6));
    set_kernels(true);
  }
}

TEST_F(RoundedActivationsTest, InputsThatAreNotFiniteSpoilTheirOwnRowOnly) {
  for (const auto& options : kRounding) {
    Layer layer(options);
    layer.linear->eval();
    auto input = at::ones({3, 48});
    input[1][7] = INFINITY;
    const auto finite = without_gradients(layer, input).isfinite();
    EXPECT_TRUE(finite[0].all().item<bool>() && finite[2].all().item<bool>());
    EXPECT_FALSE(finite[1].any().item<bool>());
  }
}

TEST_F(RoundedActivationsTest, TheFormInMemoryChangesNeitherTheWeightNorAClone) {
  at::manual_seed(0);
  for (auto options : kRounding) {
    for (const int64_t out : {1, 16, 70, 200}) {
      const auto in = options.format == WeightFormat::kInt8 ? 50 : 48;
      Layer layer(options, at::kBFloat16, in, out);
      layer.linear->eval();
      options.activations = ActivationFormat::kFloat;
      const WeightOnlyLinear plain(layer.linear->weight, options);
      EXPECT_TENSORS_EQUAL(layer.method->quantized().values, plain.quantized().values);
      EXPECT_TENSORS_EQUAL(layer.method->quantized().scales, plain.quantized().scales);
      EXPECT_TENSORS_EQUAL(layer.method->dequantized(), plain.dequantized());
      TensorCopies copies(std::nullopt);
      const auto clone = layer.method->clone(*layer.linear, copies);
      EXPECT_EQ(clone->bytes(), layer.method->bytes());
      const auto input = at::randn({3, in}).to(at::kBFloat16);
      const auto expected = without_gradients(layer, input);
      layer.linear->set_method(clone);
      EXPECT_TENSORS_EQUAL(without_gradients(layer, input), expected);
      options.activations = ActivationFormat::kInt8;
    }
  }
}

TEST_F(RoundedActivationsTest, OutputsDoNotDependOnTheNumberOfThreads) {
  at::manual_seed(0);
  const auto threads = at::get_num_threads();
  for (const auto& options : kRounding) {
    Layer layer(options, at::kFloat, 96, 333);
    layer.linear->eval();
    const auto input = at::randn({700, 96}), whole = without_gradients(layer, input);
    EXPECT_TENSORS_EQUAL(without_gradients(layer, input.narrow(0, 5, 1)), whole.narrow(0, 5, 1));
    at::set_num_threads(1);
    EXPECT_TENSORS_EQUAL(without_gradients(layer, input), whole);
    at::set_num_threads(threads);
  }
}

TEST(WeightOnlyLinearTest, HoldsNoMoreThanItsBits) {
  const auto weight = at::randn({64, 128});
  EXPECT_EQ(WeightOnlyLinear(weight, {.format = WeightFormat::kInt8}).bytes(), 64 * 128 + 64 * 4);
  EXPECT_EQ(WeightOnlyLinear(weight, {.format = WeightFormat::kInt4, .group_size = 32}).bytes(), 64 * 64 + 64 * 4 * 4);
  EXPECT_EQ(WeightOnlyLinear(at::randn({70, 128}), {}).bytes(), 80 * 128 + 80 * 4);  // whole blocks of 16 rows
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
