#include <gtest/gtest.h>

#include "support/model_golden.h"

namespace transformers::testing {
namespace {

class LlamaGoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(LlamaGoldenTest, OutputsCacheAndGradientsEqualPython) {
  expect_model_matches(Golden(golden_path("models", GetParam())));
}

INSTANTIATE_TEST_SUITE_P(, LlamaGoldenTest, ::testing::ValuesIn(golden_names("models", "llama_")),
                         [](const auto& info) { return info.param; });

class LlamaLegacyGoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(LlamaLegacyGoldenTest, WhatOnly437HasEqualsIt) {
  expect_model_matches(Golden(golden_path("legacy", GetParam())));
}

INSTANTIATE_TEST_SUITE_P(, LlamaLegacyGoldenTest,
                         ::testing::Values("llama_tuple_cache", "llama_pretraining_tp_2", "llama_pretraining_tp_4"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace transformers::testing
