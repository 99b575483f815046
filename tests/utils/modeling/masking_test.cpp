#include <ATen/ATen.h>
#include <transformers/utils/modeling/masking.h>

#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

constexpr auto kEager = AttnImplementation::kEager;
constexpr auto kSdpa = AttnImplementation::kSdpa;
constexpr auto kFlash = AttnImplementation::kFlash;

at::Tensor embeds(int64_t batch, int64_t seq, at::ScalarType dtype = at::kFloat) {
  return at::zeros({batch, seq, 4}, dtype);
}

DynamicCache cache_of(int64_t length) {
  DynamicCache cache;
  const auto tensor = at::zeros({2, 1, length, 4});
  cache.update(tensor, tensor, 0);
  return cache;
}

at::Tensor bools(std::initializer_list<int64_t> values, at::IntArrayRef sizes) {
  return at::tensor(std::vector<int64_t>(values)).view(sizes).to(at::kBool);
}

TEST(CausalMaskTest, NoneIsBuiltWhereCausalityIsEnough) {
  const auto full = at::ones({2, 3}, at::kLong);
  EXPECT_FALSE(create_causal_mask({.implementation = kSdpa, .inputs_embeds = embeds(2, 3)}).defined());
  EXPECT_FALSE(
      create_causal_mask({.implementation = kSdpa, .inputs_embeds = embeds(2, 3), .attention_mask = full}).defined());
  const auto cache = cache_of(2);
  for (const auto kernel : {kEager, kSdpa, kFlash}) {
    EXPECT_FALSE(create_causal_mask({.implementation = kernel,
                                     .inputs_embeds = embeds(2, 1),
                                     .attention_mask = full,
                                     .past_key_values = &cache})
                     .defined());
  }
}

TEST(CausalMaskTest, EagerAddsTheSmallestValueOfTheDtypeOnce) {
  for (const auto dtype : {at::kFloat, at::kHalf, at::kBFloat16}) {
    const auto padding = bools({0, 1, 1, 1}, {2, 2}).to(at::kLong);
    const auto mask =
        create_causal_mask({.implementation = kEager, .inputs_embeds = embeds(2, 2, dtype), .attention_mask = padding});
    ASSERT_EQ(mask.scalar_type(), dtype);
    EXPECT_TENSORS_EQUAL(mask.eq(0), bools({0, 0, 0, 1, 1, 0, 1, 1}, {2, 1, 2, 2}));
    EXPECT_TRUE(mask.isfinite().all().item<bool>());
    EXPECT_TRUE((mask.masked_select(mask.ne(0)).to(at::kFloat) < -6e4).all().item<bool>());
  }
}

TEST(CausalMaskTest, SdpaSeesPaddingAndThePast) {
  const auto cache = cache_of(1);
  const auto padding = bools({0, 1, 1, 1, 1, 1}, {2, 3}).to(at::kLong);
  const auto mask = create_causal_mask(
      {.implementation = kSdpa, .inputs_embeds = embeds(2, 2), .attention_mask = padding, .past_key_values = &cache});
  EXPECT_TENSORS_EQUAL(mask, bools({0, 1, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1}, {2, 1, 2, 3}));
}

TEST(CausalMaskTest, AFractionAttends) {
  const auto padding = at::tensor({0.0, 0.3, 1.0}).unsqueeze(0);
  const auto mask =
      create_causal_mask({.implementation = kSdpa, .inputs_embeds = embeds(1, 3), .attention_mask = padding});
  EXPECT_TENSORS_EQUAL(mask, bools({0, 0, 0, 0, 1, 0, 0, 1, 1}, {1, 1, 3, 3}));
}

TEST(CausalMaskTest, WhatAStaticCacheHasNotFilledIsHidden) {
  StaticCache cache(4);
  const auto tensor = at::zeros({1, 1, 2, 4});
  EXPECT_FALSE(create_causal_mask({.implementation = kSdpa, .inputs_embeds = embeds(1, 2), .past_key_values = &cache})
                   .defined());
  cache.update(tensor, tensor, 0);
  const auto mask =
      create_causal_mask({.implementation = kSdpa, .inputs_embeds = embeds(1, 1), .past_key_values = &cache});
  EXPECT_TENSORS_EQUAL(mask, bools({1, 1, 1, 0}, {1, 1, 1, 4}));
}

TEST(CausalMaskTest, PositionsThatRestartSplitARow) {
  const auto positions = at::tensor({0, 1, 0, 1}).unsqueeze(0);
  const CausalMaskInputs inputs{.implementation = kSdpa, .inputs_embeds = embeds(1, 4), .position_ids = positions};
  const auto expected = bools({1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1}, {1, 1, 4, 4});
  EXPECT_TENSORS_EQUAL(create_causal_mask(inputs), expected);
  auto with_cache = inputs;
  const DynamicCache cache;
  with_cache.past_key_values = &cache;
  EXPECT_FALSE(create_causal_mask(with_cache).defined());
  auto both_ways = inputs;
  both_ways.is_causal = false;
  EXPECT_TENSORS_EQUAL(create_causal_mask(both_ways),
                       bools({1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1}, {1, 1, 4, 4}));
}

TEST(CausalMaskTest, FunctionsOpenAndHideFurther) {
  CausalMaskInputs inputs{.implementation = kSdpa, .inputs_embeds = embeds(1, 3)};
  inputs.or_mask_function = [](auto&, auto&, const at::Tensor& key) { return key.eq(2); };
  inputs.and_mask_function = [](auto&, const at::Tensor& query, const at::Tensor& key) { return (query - key).lt(2); };
  EXPECT_TENSORS_EQUAL(create_causal_mask(inputs), bools({1, 0, 1, 1, 1, 1, 0, 1, 1}, {1, 1, 3, 3}));
}

TEST(CausalMaskTest, WithoutCausalityEveryTokenSeesEveryOther) {
  CausalMaskInputs inputs{.implementation = kEager, .inputs_embeds = embeds(1, 2)};
  inputs.is_causal = false;
  EXPECT_TENSORS_EQUAL(create_causal_mask(inputs), at::zeros({1, 1, 2, 2}));
}

TEST(CausalMaskTest, FourDimensionsMeanTheSameInEveryKernel) {
  const auto mask = bools({1, 0, 1, 1}, {1, 1, 2, 2});
  const auto made = [&](AttnImplementation kernel, const at::Tensor& given) {
    return create_causal_mask({.implementation = kernel, .inputs_embeds = embeds(1, 2), .attention_mask = given});
  };
  EXPECT_TENSORS_EQUAL(made(kSdpa, mask.to(at::kLong)), mask);
  EXPECT_TENSORS_EQUAL(made(kEager, mask).eq(0), mask);
  const auto additive = at::tensor({0.0F, -INFINITY, -1.5F, 0.0F}).view({1, 1, 2, 2});
  EXPECT_TRUE(made(kEager, additive).isfinite().all().item<bool>());
  EXPECT_TENSORS_EQUAL(made(kSdpa, additive), made(kEager, additive));
}

TEST(CausalMaskTest, RefusesMasksThatDoNotFit) {
  const auto cache = cache_of(2);
  const auto made = [&](const at::Tensor& mask, AttnImplementation kernel = kSdpa) {
    return create_causal_mask(
        {.implementation = kernel, .inputs_embeds = embeds(2, 1), .attention_mask = mask, .past_key_values = &cache});
  };
  EXPECT_ERROR(made(at::ones({2, 1})), "past and new", "[2, 3]", "[2, 1]");
  EXPECT_ERROR(made(at::ones({2, 4})), "[2, 3]", "[2, 4]");
  EXPECT_ERROR(made(at::ones({1, 3})), "[2, 3]", "[1, 3]");
  EXPECT_ERROR(made(at::ones({2, 3, 3})), "2 or 4", "got 3");
  EXPECT_ERROR(made(at::ones({2, 1, 1, 2})), "[2 or 1, heads or 1, 1, 3]", "[2, 1, 1, 2]");
  EXPECT_ERROR(made(at::ones({2, 1, 1, 3}), kFlash), "flash", "2-D");
  CausalMaskInputs inputs{.implementation = kFlash, .inputs_embeds = embeds(1, 3)};
  inputs.or_mask_function = [](auto&, auto&, const at::Tensor& key) { return key.eq(2); };
  EXPECT_ERROR(create_causal_mask(inputs), "flash", "sdpa or eager");
}

}  // namespace
}  // namespace transformers::testing
