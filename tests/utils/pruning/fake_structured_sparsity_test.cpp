#include <torch/torch.h>
#include <transformers/utils/pruning/fake_structured_sparsity.h>

#include "support/tensor_assertions.h"
#include "utils/pruning/tensors.h"

namespace transformers {
namespace {

using testing::bools;
using testing::ramp;

TEST(FakeStructuredSparsityTest, HidesRowsOfAnyShape) {
  for (const auto& shape : std::vector<std::vector<int64_t>>{{3}, {3, 2}, {3, 2, 2, 2}}) {
    const auto parameter = ramp(shape).requires_grad_();
    const FakeStructuredSparsity sparsity(parameter, bools({1, 0, 1}));
    EXPECT_TENSORS_EQUAL(sparsity.mask(), bools({1, 0, 1}));
    EXPECT_EQ(parameter[1].abs().sum().item<float>(), 0);
    EXPECT_TENSORS_EQUAL(parameter.detach().index_select(0, at::tensor({0, 2}, at::kLong)),
                         ramp(shape).index_select(0, at::tensor({0, 2}, at::kLong)));
    EXPECT_TENSORS_EQUAL(sparsity.original(), ramp(shape));
  }
}

TEST(FakeStructuredSparsityTest, KeepsEveryRowWithoutAMask) {
  const auto parameter = ramp({3, 2}).requires_grad_();
  const FakeStructuredSparsity sparsity(parameter);
  EXPECT_TENSORS_EQUAL(sparsity.mask(), bools({1, 1, 1}));
  EXPECT_TENSORS_EQUAL(parameter.detach(), ramp({3, 2}));
}

TEST(FakeStructuredSparsityTest, ShowsRowsAgainWithTheirValues) {
  const auto parameter = ramp({3, 2}).requires_grad_();
  FakeStructuredSparsity(parameter, bools({0, 0, 1}));
  auto sparsity = FakeStructuredSparsity::on(parameter);
  ASSERT_TRUE(sparsity);
  sparsity->set_mask(bools({1, 0, 0}));
  EXPECT_TENSORS_EQUAL(parameter.detach(), at::tensor({1.F, 2.F, 0.F, 0.F, 0.F, 0.F}).reshape({3, 2}));
}

TEST(FakeStructuredSparsityTest, IsNotFoundWhereAMaskIsNotOfRows) {
  const auto parameter = ramp({3, 2}).requires_grad_();
  const ParameterMask mask(parameter, at::ones({3, 2}));
  EXPECT_FALSE(FakeStructuredSparsity::on(parameter));
}

TEST(FakeStructuredSparsityTest, RefusesOtherMasks) {
  const auto parameter = ramp({3, 2}).requires_grad_();
  EXPECT_ERROR(FakeStructuredSparsity(parameter, bools({1, 0})), "[3]", "[2]");
  EXPECT_ERROR(FakeStructuredSparsity(parameter, at::ones({3})), "bool");
  EXPECT_ERROR(FakeStructuredSparsity(at::ones({}).requires_grad_()), "rows");
  FakeStructuredSparsity sparsity(parameter);
  EXPECT_ERROR(sparsity.set_mask(bools({1, 0, 1, 1})), "[3]", "[4]");
}

}  // namespace
}  // namespace transformers
