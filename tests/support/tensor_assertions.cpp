#include "support/tensor_assertions.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <sstream>

namespace transformers::testing {
namespace {

using ::testing::AssertionFailure;
using ::testing::AssertionResult;
using ::testing::AssertionSuccess;

AssertionResult same_kind(const at::Tensor& actual, const at::Tensor& expected) {
  if (!actual.defined() || !expected.defined()) {
    return AssertionFailure() << "undefined tensor: actual " << (actual.defined() ? "defined" : "undefined")
                              << ", expected " << (expected.defined() ? "defined" : "undefined");
  }
  if (actual.scalar_type() != expected.scalar_type()) {
    return AssertionFailure() << "dtype " << actual.scalar_type() << ", expected " << expected.scalar_type();
  }
  if (actual.sizes() != expected.sizes()) {
    std::ostringstream text;
    text << "shape " << actual.sizes() << ", expected " << expected.sizes();
    return AssertionFailure() << text.str();
  }
  return AssertionSuccess();
}

std::string index_text(int64_t flat, at::IntArrayRef sizes) {
  std::vector<int64_t> index(sizes.size());
  for (size_t d = sizes.size(); d-- > 0;) {
    index[d] = flat % sizes[d];
    flat /= sizes[d];
  }
  std::ostringstream text;
  text << at::IntArrayRef(index);
  return text.str();
}

/// `excess` holds, per element, how far it is beyond what is allowed; NaN counts as beyond.
AssertionResult judge(const at::Tensor& actual, const at::Tensor& expected, at::Tensor excess) {
  if (excess.numel() == 0) {
    return AssertionSuccess();
  }
  excess = excess.nan_to_num(std::numeric_limits<double>::infinity()).flatten();
  const auto worst = excess.argmax().item<int64_t>();
  if (excess[worst].item<double>() <= 0) {
    return AssertionSuccess();
  }
  const auto wrong = excess.gt(0).sum().item<int64_t>();
  return AssertionFailure() << wrong << " of " << excess.numel() << " elements differ; worst at "
                            << index_text(worst, expected.sizes()) << ": " << actual.flatten()[worst].item<double>()
                            << ", expected " << expected.flatten()[worst].item<double>();
}

at::Tensor in_double(const at::Tensor& tensor) { return tensor.detach().to(at::kCPU, at::kDouble).contiguous(); }

/// Absolute differences; 0 where both are the same infinity or both NaN.
at::Tensor difference(const at::Tensor& actual, const at::Tensor& expected) {
  const auto same = actual.eq(expected).logical_or(actual.isnan().logical_and(expected.isnan()));
  return (actual - expected).abs().masked_fill(same, 0);
}

}  // namespace

Tolerance default_tolerance(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return {1.3e-6, 1e-5};
    case at::kBFloat16:
      return {1.6e-2, 1e-5};
    case at::kHalf:
      return {1e-3, 1e-5};
    case at::kDouble:
      return {1e-7, 1e-7};
    default:
      return {0, 0};
  }
}

AssertionResult tensors_close(const at::Tensor& actual, const at::Tensor& expected, Tolerance tolerance) {
  if (auto kind = same_kind(actual, expected); !kind) {
    return kind;
  }
  const auto a = in_double(actual);
  const auto e = in_double(expected);
  const auto allowed = (e.abs() * tolerance.relative + tolerance.absolute).nan_to_num(0, 0, 0);
  return judge(a, e, difference(a, e) - allowed);
}

AssertionResult tensors_close(const at::Tensor& actual, const at::Tensor& expected) {
  if (auto kind = same_kind(actual, expected); !kind) {
    return kind;
  }
  return tensors_close(actual, expected, default_tolerance(expected.scalar_type()));
}

AssertionResult tensors_close_to_largest(const at::Tensor& actual, const at::Tensor& expected, double relative) {
  if (auto kind = same_kind(actual, expected); !kind || expected.numel() == 0) {
    return kind;
  }
  const auto largest = in_double(expected).nan_to_num(0, 0, 0).abs().max().item<double>();
  return tensors_close(actual, expected, {.relative = 0, .absolute = relative * largest});
}

AssertionResult tensors_equal(const at::Tensor& actual, const at::Tensor& expected) {
  return tensors_close(actual, expected, {.relative = 0, .absolute = 0});
}

AssertionResult throws_error(const std::function<void()>& action, std::initializer_list<std::string_view> fragments) {
  try {
    action();
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    for (const auto fragment : fragments) {
      if (message.find(fragment) == std::string::npos) {
        return AssertionFailure() << "message lacks \"" << fragment << "\": " << message;
      }
    }
    return AssertionSuccess();
  } catch (const std::exception& error) {
    return AssertionFailure() << "threw another type: " << error.what();
  }
  return AssertionFailure() << "threw nothing";
}

}  // namespace transformers::testing
