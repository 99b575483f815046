#pragma once

#include <transformers/utils/nn/state_dict.h>

#include <cstdint>
#include <string>
#include <vector>

namespace transformers {

/// A number with all its digits, so that rates of 1e-8 and 2e-8 are different settings.
std::string exact_text(double number);

/// Numbers as a float64 tensor for a state dict, which keeps every bit.
at::Tensor to_tensor(const std::vector<double>& numbers);

/// Reads numbers from a state dict. Throws, naming `name`, when the entry is missing, has another dtype, or does not
/// hold `count` numbers (negative: any number of them).
std::vector<double> numbers_of(const StateDict& state, const std::string& name, int64_t count = -1);
double number_of(const StateDict& state, const std::string& name);
/// The same for counters: also throws when one is not an integer from 0 to 2^53.
std::vector<int64_t> whole_numbers_of(const StateDict& state, const std::string& name, int64_t count = -1);
int64_t whole_number_of(const StateDict& state, const std::string& name);
/// The same for learning rates and scales: also throws when one is negative or not finite.
std::vector<double> positive_numbers_of(const StateDict& state, const std::string& name, int64_t count = -1);

}  // namespace transformers
