#include "utils/optim/internal/numbers.h"

#include <ATen/ops/tensor.h>

#include <array>
#include <charconv>
#include <cmath>

namespace transformers {

std::string exact_text(double number) {
  std::array<char, 32> text{};
  auto* const end = std::to_chars(text.data(), text.data() + text.size(), number).ptr;
  return {text.data(), end};
}

at::Tensor to_tensor(const std::vector<double>& numbers) { return at::tensor(numbers, at::kDouble); }

std::vector<double> numbers_of(const StateDict& state, const std::string& name, int64_t count) {
  const auto* found = state.find(name);
  TORCH_CHECK(found != nullptr, "training state: \"", name, "\" is missing");
  TORCH_CHECK(found->scalar_type() == at::kDouble && found->dim() == 1 && (count < 0 || found->numel() == count),
              "training state: \"", name, "\" must be float64 numbers", count < 0 ? "" : ", " + std::to_string(count),
              ", found ", found->scalar_type(), " of shape ", found->sizes());
  const auto numbers = found->cpu().contiguous();
  return {numbers.const_data_ptr<double>(), numbers.const_data_ptr<double>() + numbers.numel()};
}

std::vector<int64_t> whole_numbers_of(const StateDict& state, const std::string& name, int64_t count) {
  constexpr double kMost = int64_t{1} << 53;  // beyond it a double cannot hold every integer
  std::vector<int64_t> whole;
  for (const auto number : numbers_of(state, name, count)) {
    TORCH_CHECK(number >= 0 && number <= kMost && number == std::floor(number), "training state: \"", name,
                "\" must be a whole number of 0 or more, found ", number);
    whole.push_back(static_cast<int64_t>(number));
  }
  return whole;
}

int64_t whole_number_of(const StateDict& state, const std::string& name) {
  return whole_numbers_of(state, name, 1).front();
}

std::vector<double> positive_numbers_of(const StateDict& state, const std::string& name, int64_t count) {
  auto numbers = numbers_of(state, name, count);
  for (const auto number : numbers) {
    TORCH_CHECK(std::isfinite(number) && number >= 0, "training state: \"", name,
                "\" must be finite and not negative, found ", number);
  }
  return numbers;
}

double number_of(const StateDict& state, const std::string& name) { return numbers_of(state, name, 1).front(); }

}  // namespace transformers
