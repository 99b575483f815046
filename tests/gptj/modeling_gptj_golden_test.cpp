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

}  // namespace
}  // namespace transformers::testing
