#include <ATen/ATen.h>
#include <transformers/utils/configuration/configuration_utils.h>
#include <transformers/utils/modeling/modeling_attn_mask_utils.h>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

using Call = std::function<at::Tensor(const GoldenCase&)>;

at::ScalarType dtype_of(const GoldenCase& c) { return dtype_from_name(c.get<std::string>("dtype")); }

AttentionMaskConverter converter_of(const GoldenCase& c) {
  return AttentionMaskConverter(c.get<bool>("is_causal"), c.optional<int64_t>("sliding_window"));
}

at::Tensor prepared(const GoldenCase& c, bool for_sdpa) {
  const std::array<int64_t, 2> shape{c.get<int64_t>("batch_size"), c.get<int64_t>("query_length")};
  const auto embeds = at::zeros({shape[0], shape[1], 4});
  const auto past = c.get<int64_t>("past_key_values_length");
  return for_sdpa ? prepare_4d_causal_attention_mask_for_sdpa(c.tensor("mask"), shape, embeds, past)
                  : prepare_4d_causal_attention_mask(c.tensor("mask"), shape, embeds, past);
}

const std::map<std::string, Call> kCalls{
    {"to_causal_4d",
     [](const GoldenCase& c) {
       return converter_of(c).to_causal_4d(c.get<int64_t>("batch_size"), c.get<int64_t>("query_length"),
                                           c.get<int64_t>("key_value_length"), dtype_of(c));
     }},
    {"to_4d",
     [](const GoldenCase& c) {
       return converter_of(c).to_4d(c.tensor("mask"), c.get<int64_t>("query_length"), dtype_of(c),
                                    c.get<int64_t>("key_value_length"));
     }},
    {"_expand_mask",
     [](const GoldenCase& c) {
       return AttentionMaskConverter::expand_mask(c.tensor("mask"), dtype_of(c), c.optional<int64_t>("tgt_len"));
     }},
    {"_unmask_unattended",
     [](const GoldenCase& c) {
       return AttentionMaskConverter::unmask_unattended(c.tensor("expanded"), c.tensor("mask"),
                                                        c.get<double>("unmasked_value"));
     }},
    {"_prepare_4d_causal_attention_mask", [](const GoldenCase& c) { return prepared(c, /*for_sdpa=*/false); }},
    {"_prepare_4d_causal_attention_mask_for_sdpa", [](const GoldenCase& c) { return prepared(c, /*for_sdpa=*/true); }},
    {"_prepare_4d_attention_mask",
     [](const GoldenCase& c) {
       return prepare_4d_attention_mask(c.tensor("mask"), dtype_of(c), c.optional<int64_t>("tgt_len"));
     }},
    {"_prepare_4d_attention_mask_for_sdpa",
     [](const GoldenCase& c) {
       return prepare_4d_attention_mask_for_sdpa(c.tensor("mask"), dtype_of(c), c.optional<int64_t>("tgt_len"));
     }},
};

TEST(AttentionMaskConverterTest, EveryFunctionEqualsPython) {
  const auto cases = golden_cases("legacy", "attention_masks");
  ASSERT_FALSE(cases.empty());
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    const auto result = kCalls.at(c.get<std::string>("function"))(c);
    ASSERT_EQ(result.defined(), c.tensor("result").defined());
    if (result.defined()) {
      EXPECT_TENSORS_EQUAL(result, c.tensor("result"));
    }
  }
}

TEST(AttentionMaskConverterTest, CreatingAMaskIsConvertingSizes) {
  const auto mask = create_4d_causal_attention_mask({2, 3}, at::kFloat, at::kCPU, 2);
  EXPECT_TENSORS_EQUAL(mask, AttentionMaskConverter(true).to_causal_4d(2, 3, 5, at::kFloat));
  EXPECT_FALSE(create_4d_causal_attention_mask({2, 1}, at::kFloat, at::kCPU, 2).defined());
}

TEST(AttentionMaskConverterTest, AWindowSeesTheTokenAndThoseBeforeIt) {
  const auto mask = AttentionMaskConverter(true, 2).to_causal_4d(1, 3, 4, at::kFloat).eq(0)[0][0];
  const auto expected = at::tensor({1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1}).view({3, 4}).to(at::kBool);
  EXPECT_TENSORS_EQUAL(mask, expected);
}

TEST(AttentionMaskConverterTest, RefusesWhatItCannotConvert) {
  const auto mask = at::ones({2, 5}, at::kLong);
  EXPECT_ERROR(AttentionMaskConverter(true, 0), "sliding_window", "above 0", "got 0");
  EXPECT_ERROR(AttentionMaskConverter(false).to_causal_4d(1, 2, 2, at::kFloat), "causal");
  EXPECT_ERROR(AttentionMaskConverter(true).to_4d(mask, 3, at::kFloat), "key_value_length");
  EXPECT_ERROR(AttentionMaskConverter(false, 2).to_4d(mask, 3, at::kFloat, 5), "window", "causal");
  EXPECT_ERROR(AttentionMaskConverter(true).to_4d(mask, 3, at::kFloat, 6), "6 keys", "got 5");
  EXPECT_ERROR(AttentionMaskConverter(true).to_causal_4d(1, 3, 2, at::kFloat), "past_key_values_length", "-1");
  const auto embeds = at::zeros({2, 3, 4});
  EXPECT_ERROR(prepare_4d_causal_attention_mask(at::ones({2, 1, 3, 4}), {2, 3}, embeds, 2), "[2, 1, 3, 5]",
               "[2, 1, 3, 4]");
  EXPECT_ERROR(prepare_4d_causal_attention_mask(at::ones({2, 3, 5}), {2, 3}, embeds, 2), "2 or 4", "got 3");
}

}  // namespace
}  // namespace transformers::testing
