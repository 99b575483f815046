#pragma once

#include <transformers/utils/nn/state_dict.h>

#include <cstdint>
#include <string>
#include <vector>

namespace transformers {

/// A number to its last digit: rates of 1e-8 and 2e-8 are two settings.
std::string exact_text(double number);

/// Numbers as float64 tensors of a state dict, which keep every bit.
at::Tensor to_tensor(const std::vector<double>& numbers);

/// Throws, naming `name`, when it is missing, of another dtype, or not `count` numbers (any count where negative).
std::vector<double> numbers_of(const StateDict& state, const std::string& name, int64_t count = -1);
double number_of(const StateDict& state, const std::string& name);
/// Throws, too, when one is no whole number from 0 to 2^53: counters, before something goes by them.
std::vector<int64_t> whole_numbers_of(const StateDict& state, const std::string& name, int64_t count = -1);
int64_t whole_number_of(const StateDict& state, const std::string& name);
/// Throws, too, when one is negative or not finite: learning rates, scales.
std::vector<double> positive_numbers_of(const StateDict& state, const std::string& name, int64_t count = -1);

}  // namespace transformers
