#include "utils/kernels/level.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>

namespace transformers::kernels {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(KernelLevelTest, WithoutANameTheHighestIsTaken) {
  EXPECT_EQ(level_from_name(nullptr, Level::kAvx2), Level::kAvx2);
  EXPECT_EQ(level_from_name("", Level::kAvx512), Level::kAvx512);
  EXPECT_EQ(level_from_name("libtorch", Level::kAvx512), Level::kAvx512);
  EXPECT_EQ(level_from_name("auto", Level::kAvx2), Level::kAvx2);
}

TEST(KernelLevelTest, ANameTakesItsLevel) {
  for (const auto level : {Level::kBaseline, Level::kAvx2, Level::kAvx512, Level::kAvx512Vnni}) {
    EXPECT_EQ(level_from_name(level_name(level), Level::kAvx512Vnni), level);
  }
}

TEST(KernelLevelTest, AnUnknownNameIsAnErrorThatNamesVariableValueAndChoice) {
  for (const auto* name : {"AVX2", "avx", "avx512 ", "native"}) {
    EXPECT_THAT([&] { level_from_name(name, Level::kAvx512); },
                ThrowsMessage<std::invalid_argument>(AllOf(HasSubstr("TRANSFORMERS_KERNELS"),
                                                           HasSubstr("(baseline, avx2, avx512)"),
                                                           HasSubstr('"' + std::string(name) + '"'))));
  }
}

TEST(KernelLevelTest, ALevelThatTheMachineLacksIsAnError) {
  EXPECT_THAT([] { level_from_name("avx512", Level::kAvx2); },
              ThrowsMessage<std::invalid_argument>(AllOf(HasSubstr("(baseline, avx2)"), HasSubstr("\"avx512\""))));
  EXPECT_THAT([] { level_from_name("avx2", Level::kBaseline); },
              ThrowsMessage<std::invalid_argument>(AllOf(HasSubstr("(baseline)"), HasSubstr("\"avx2\""))));
}

/// Ends the process with the level in use, or with 99 and the error's text.
[[noreturn]] void exit_with_level_of(const char* value) {
  setenv("TRANSFORMERS_KERNELS", value, /*replace=*/1);
  try {
    std::exit(static_cast<int>(active_level()));
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    std::exit(99);
  }
}

// Each in a process of its own: the level is chosen once.
TEST(KernelLevelDeathTest, TheEnvironmentVariableSetsTheLevel) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(exit_with_level_of("baseline"), ::testing::ExitedWithCode(static_cast<int>(Level::kBaseline)), "");
  EXPECT_EXIT(exit_with_level_of(""), ::testing::ExitedWithCode(static_cast<int>(highest_level())), "");
  EXPECT_EXIT(exit_with_level_of("sse"), ::testing::ExitedWithCode(99), "TRANSFORMERS_KERNELS must .*\"sse\"");
}

/// Ends the process with 10 where kernels are used at first, and 1 more where they are after being switched on.
[[noreturn]] void exit_with_switch_after(const char* value) {
  setenv("TRANSFORMERS_KERNELS", value, /*replace=*/1);
  const int before = enabled() ? 10 : 0;
  set_enabled(true);
  std::exit(before + (enabled() ? 1 : 0));
}

TEST(KernelLevelDeathTest, NoneSwitchesKernelsOffUntilTheyAreSwitchedOn) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(exit_with_switch_after("libtorch"), ::testing::ExitedWithCode(1), "");
  EXPECT_EXIT(exit_with_switch_after("baseline"), ::testing::ExitedWithCode(11), "");
}

}  // namespace
}  // namespace transformers::kernels
