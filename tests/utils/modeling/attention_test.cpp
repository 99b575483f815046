#include <ATen/ATen.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/modeling/attention.h>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

TEST(UnpadTest, IndicesAndLengthsEqualPython) {
  for (const auto& c : golden_cases("legacy", "unpad")) {
    SCOPED_TRACE(c.name);
    const auto data = get_unpad_data(c.tensor("mask"));
    EXPECT_TENSORS_EQUAL(data.indices, c.tensor("indices"));
    EXPECT_TENSORS_EQUAL(data.cu_seqlens, c.tensor("cu_seqlens"));
    EXPECT_EQ(data.max_seqlen, c.get<int64_t>("max_seqlen_in_batch"));
  }
}

TEST(UnpadTest, RepaddingPutsTokensBackAndZerosElsewhere) {
  const auto mask = at::tensor({0, 1, 1, 1, 1, 0}).view({2, 3});
  const auto tensor = at::arange(12, at::kFloat).view({2, 3, 2});
  const auto indices = get_unpad_data(mask).indices;
  const auto packed = unpad(tensor, indices);
  EXPECT_EQ(packed.sizes(), (at::IntArrayRef{4, 2}));
  EXPECT_TENSORS_EQUAL(repad(packed, indices, 2, 3), tensor * mask.unsqueeze(-1).to(at::kFloat));
}

TEST(AttentionTest, HeadsAreSplitAndMergedBack) {
  const auto tensor = at::randn({2, 3, 8});
  const auto heads = split_heads(tensor, 2);
  EXPECT_EQ(heads.sizes(), (at::IntArrayRef{2, 4, 3, 2}));
  EXPECT_EQ(heads.data_ptr(), tensor.data_ptr());
  EXPECT_TENSORS_EQUAL(heads[1][3][2], tensor[1][2].narrow(0, 6, 2));
  EXPECT_TENSORS_EQUAL(merge_heads(heads), tensor);
}

TEST(AttentionTest, RepeatedHeadsStandSideBySide) {
  const auto tensor = at::randn({2, 2, 3, 4});
  EXPECT_TENSORS_EQUAL(repeat_kv(tensor, 3), tensor.repeat_interleave(3, 1));
  EXPECT_TRUE(repeat_kv(tensor, 1).is_same(tensor));
}

struct Shape {
  int64_t heads, kv_heads, query, key;
};

class AttentionKernelTest : public ::testing::TestWithParam<Shape> {
 protected:
  AttentionResult run(AttnImplementation implementation, const at::Tensor& mask) const {
    return attention(implementation, llama::eager_attention_forward, query_, key_, value_, mask, {.scaling = 0.5});
  }

  const Shape shape_ = GetParam();
  const at::Tensor query_ = at::randn({2, shape_.heads, shape_.query, 4});
  const at::Tensor key_ = at::randn({2, shape_.kv_heads, shape_.key, 4});
  const at::Tensor value_ = at::randn({2, shape_.kv_heads, shape_.key, 4});
  /// Aligned to the end, as behind a cache; the second row is padded on its left.
  const at::Tensor padding_ = at::arange(shape_.key).unsqueeze(0).ge(at::tensor({0, 2}).unsqueeze(1));
  const at::Tensor causal_ =
      at::ones({shape_.query, shape_.key}, at::kBool).tril(shape_.key - shape_.query).view({1, 1, shape_.query, -1});
};

TEST_P(AttentionKernelTest, EagerSdpaAndFlashAgreeOnRealTokens) {
  const auto mask = causal_.logical_and(padding_.unsqueeze(1).unsqueeze(1));
  const auto additive = at::zeros(mask.sizes()).masked_fill(mask.logical_not(), std::numeric_limits<float>::lowest());
  const auto real = padding_.narrow(1, shape_.key - shape_.query, shape_.query).unsqueeze(1).unsqueeze(-1);
  const auto on_real_tokens = [&](const AttentionResult& result) { return result.output.masked_fill(~real, 0); };
  const auto eager = on_real_tokens(run(AttnImplementation::kEager, additive));
  EXPECT_TENSORS_CLOSE(on_real_tokens(run(AttnImplementation::kSdpa, mask)), eager, {1.3e-6, 2e-6});
  EXPECT_TENSORS_CLOSE(on_real_tokens(run(AttnImplementation::kSdpa, additive)), eager, {1.3e-6, 2e-6});
  EXPECT_TENSORS_CLOSE(on_real_tokens(run(AttnImplementation::kFlash, padding_)), eager, {1.3e-6, 2e-6});
}

TEST_P(AttentionKernelTest, NoMaskIsCausality) {
  if (shape_.query != shape_.key && shape_.query != 1) {
    return;  // a mask is built then
  }
  const auto with_mask = run(AttnImplementation::kSdpa, causal_).output;
  EXPECT_TENSORS_CLOSE(run(AttnImplementation::kSdpa, {}).output, with_mask, {1.3e-6, 2e-6});
  EXPECT_TENSORS_CLOSE(run(AttnImplementation::kFlash, {}).output, with_mask, {1.3e-6, 2e-6});
}

INSTANTIATE_TEST_SUITE_P(, AttentionKernelTest,
                         ::testing::Values(Shape{4, 4, 6, 6}, Shape{4, 2, 6, 6}, Shape{4, 1, 6, 6}, Shape{4, 2, 1, 6},
                                           Shape{4, 4, 1, 6}, Shape{4, 1, 1, 6}, Shape{4, 2, 3, 6}, Shape{4, 4, 2, 7}),
                         [](const auto& info) {
                           const auto& shape = info.param;
                           return "heads" + std::to_string(shape.heads) + "_kv" + std::to_string(shape.kv_heads) +
                                  "_query" + std::to_string(shape.query) + "_key" + std::to_string(shape.key);
                         });

TEST(AttentionTest, AMaskOfItsOwnForEachHeadIsGroupedWithThem) {
  const auto query = at::randn({1, 4, 1, 4}), key = at::randn({1, 2, 5, 4}), value = at::randn({1, 2, 5, 4});
  const auto mask = at::randn({1, 4, 1, 5});
  const auto run = [&](AttnImplementation implementation) {
    return attention(implementation, llama::eager_attention_forward, query, key, value, mask, {.scaling = 0.5}).output;
  };
  EXPECT_TENSORS_CLOSE(run(AttnImplementation::kSdpa), run(AttnImplementation::kEager), {1.3e-6, 2e-6});
}

TEST(AttentionTest, KernelNamesComeBack) {
  for (const auto* name : {"auto", "eager", "sdpa", "flash"}) {
    EXPECT_EQ(attn_implementation_name(attn_implementation_from_name(name)), name);
  }
  EXPECT_EQ(attn_implementation_from_name("flash_attention_2"), AttnImplementation::kFlash);
  EXPECT_ERROR(attn_implementation_from_name("flash3"), "flash3", "auto, eager, sdpa, flash");
  EXPECT_EQ(resolve_attn_implementation(AttnImplementation::kFlash, /*weights_wanted=*/true),
            AttnImplementation::kEager);
  EXPECT_EQ(resolve_attn_implementation(AttnImplementation::kAuto, /*weights_wanted=*/false),
            AttnImplementation::kSdpa);
}

TEST(AttentionTest, FlashTakesNoMaskOfFourDimensions) {
  const auto tensor = at::randn({1, 1, 3, 4});
  EXPECT_ERROR(attention(AttnImplementation::kFlash, llama::eager_attention_forward, tensor, tensor, tensor,
                         at::ones({1, 1, 3, 3}), {.scaling = 1}),
               "flash", "2-D", "got 4");
}

TEST(AttentionTest, FlashLeavesOutTheKeysBehindItsMask) {
  const auto query = at::randn({2, 4, 1, 4}), key = at::randn({2, 2, 5, 4}), value = at::randn({2, 2, 5, 4});
  const auto mask = at::tensor({1, 1, 1, 0, 1, 1}).view({2, 3}).to(at::kBool);
  const auto run = [&](const at::Tensor& keys, const at::Tensor& values, const at::Tensor& attends) {
    return attention(AttnImplementation::kFlash, llama::eager_attention_forward, query, keys, values, attends,
                     {.scaling = 0.5})
        .output;
  };
  const auto filled = run(key.narrow(2, 0, 3), value.narrow(2, 0, 3), mask);
  EXPECT_GT(filled.abs().min().item<double>(), 0);
  EXPECT_TENSORS_EQUAL(run(key, value, mask), filled);
  EXPECT_ERROR(run(key, value, at::ones({2, 6}, at::kBool)), "at most the 5 keys", "got 6");
}

}  // namespace
}  // namespace transformers::testing
