#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <functional>
#include <initializer_list>
#include <string_view>

namespace transformers::testing {

struct Tolerance {
  double relative;
  double absolute;
};

/// The project's tolerances, those of torch.testing.assert_close.
Tolerance default_tolerance(at::ScalarType dtype);

/// Passes when dtype, shape and every element agree within |actual - expected| <= absolute + relative * |expected|.
/// A failure prints the worst element, its index and both values.
::testing::AssertionResult tensors_close(const at::Tensor& actual, const at::Tensor& expected, Tolerance tolerance);
::testing::AssertionResult tensors_close(const at::Tensor& actual, const at::Tensor& expected);

/// Passes when the largest difference is within `relative` times the largest expected magnitude.
::testing::AssertionResult tensors_close_to_largest(const at::Tensor& actual, const at::Tensor& expected,
                                                    double relative);

/// Passes when dtype, shape and every bit agree.
::testing::AssertionResult tensors_equal(const at::Tensor& actual, const at::Tensor& expected);

/// Passes when `action` throws a c10::Error whose message holds every fragment.
::testing::AssertionResult throws_error(const std::function<void()>& action,
                                        std::initializer_list<std::string_view> fragments);

}  // namespace transformers::testing

#define EXPECT_TENSORS_CLOSE(...) EXPECT_TRUE(::transformers::testing::tensors_close(__VA_ARGS__))
#define EXPECT_TENSORS_EQUAL(actual, expected) EXPECT_TRUE(::transformers::testing::tensors_equal(actual, expected))

#define EXPECT_ERROR(statement, ...) \
  EXPECT_TRUE(::transformers::testing::throws_error([&] { statement; }, {__VA_ARGS__}))
