#include <gtest/gtest.h>

#include "support/model_golden.h"

namespace transformers::testing {
namespace {

class GPTJGoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(GPTJGoldenTest, OutputsCacheAndGradientsEqualPython) {
  expect_model_matches(Golden(golden_path("models", GetParam())));
}

INSTANTIATE_TEST_SUITE_P(, GPTJGoldenTest, ::testing::ValuesIn(golden_names("models", "gptj_")),
                         [](const auto& info) { return info.param; });

class GPTJLegacyGoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(GPTJLegacyGoldenTest, WhatOnly437HasEqualsIt) {
  expect_model_matches(Golden(golden_path("legacy", GetParam())));
}

INSTANTIATE_TEST_SUITE_P(, GPTJLegacyGoldenTest,
                         ::testing::Values("gptj_head_mask", "gptj_head_mask_one_row", "gptj_tuple_cache"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace transformers::testing
