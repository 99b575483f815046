#include <ATen/ATen.h>
#include <torch/nn/modules/container/sequential.h>
#include <transformers/utils/nn/construction.h>
#include <transformers/utils/nn/packed_linear.h>
#include <transformers/utils/nn/state_dict.h>

#include "support/tensor_assertions.h"

namespace transformers {
namespace {

Linear packed(int64_t in, int64_t out, bool bias, at::ScalarType dtype) {
  const ConstructionGuard guard({.dtype = dtype});
  Linear layer(in, out, bias);
  layer->set_method(std::make_shared<PackedLinear>(layer->weight));
  return layer;
}

class PackedLinearTest : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override {
    if (!PackedLinear::supports(at::empty({2, 2}, GetParam()))) {
      GTEST_SKIP() << "this machine packs no " << GetParam();
    }
  }
};

TEST_P(PackedLinearTest, GivesThePlainProduct) {
  const at::NoGradGuard no_grad;
  for (const bool bias : {true, false}) {
    const auto layer = packed(24, 40, bias, GetParam());
    for (const auto& shape : std::vector<std::vector<int64_t>>{{1, 24}, {7, 24}, {2, 3, 24}, {0, 24}}) {
      const auto input = at::randn(shape).to(GetParam());
      EXPECT_TENSORS_CLOSE(layer(input), at::linear(input, layer->weight, layer->bias));
    }
    const auto transposed = at::randn({24, 5}).to(GetParam()).t();
    EXPECT_TENSORS_CLOSE(layer(transposed), at::linear(transposed, layer->weight, layer->bias));
  }
}

TEST_P(PackedLinearTest, NamesAndTensorsOfTheStateDictStay) {
  const auto layer = packed(24, 40, true, GetParam());
  const auto state = state_dict(*layer);
  EXPECT_EQ(state.keys(), (std::vector<std::string>{"weight", "bias"}));
  EXPECT_EQ(state["weight"].data_ptr(), layer->weight.data_ptr());
}

TEST_P(PackedLinearTest, LeavesGradientsToThePlainProduct) {
  const auto layer = packed(4, 3, true, GetParam());
  const auto input = at::ones({2, 4}, GetParam());
  layer(input).sum().backward();
  EXPECT_TENSORS_EQUAL(layer->weight.grad(), at::full({3, 4}, 2.0, GetParam()));
}

TEST_P(PackedLinearTest, AReplacedWeightIsMultipliedPlainly) {
  const at::NoGradGuard no_grad;
  auto layer = packed(4, 3, false, GetParam());
  layer->set_parameters(at::ones({2, 4}, GetParam()), {});
  EXPECT_TENSORS_EQUAL(layer(at::ones({1, 4}, GetParam())), at::full({1, 2}, 4.0, GetParam()));
}

TEST_P(PackedLinearTest, AnotherWeightAtTheSameAddressIsKnown) {
  const at::NoGradGuard no_grad;
  const auto memory = at::ones({3, 4}, GetParam());
  const auto view = [&] { return at::from_blob(memory.data_ptr(), {3, 4}, GetParam()); };
  Linear layer(view(), at::Tensor());
  layer->set_method(std::make_shared<PackedLinear>(layer->weight));
  memory.fill_(2);
  layer->set_parameters(view(), {});
  EXPECT_TENSORS_EQUAL(layer(at::ones({1, 4}, GetParam())), at::full({1, 3}, 8.0, GetParam()));
}

INSTANTIATE_TEST_SUITE_P(, PackedLinearTest, ::testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

TEST(PackedLinearSupportTest, RefusesWhatCannotBePacked) {
  EXPECT_FALSE(PackedLinear::supports(at::empty({2, 2}, at::kDouble)));
  EXPECT_FALSE(PackedLinear::supports(at::empty({2, 2}, at::TensorOptions().device(at::kMeta))));
  EXPECT_ERROR(PackedLinear(at::empty({2, 2}, at::kDouble)), "PackedLinear", "Double", "[2, 2]");
}

}  // namespace
}  // namespace transformers
