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

}  // namespace
}  // namespace transformers::testing
