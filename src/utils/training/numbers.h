#pragma once

#include <transformers/utils/nn/state_dict.h>

#include <string>
#include <vector>

namespace transformers {

/// Numbers as float64 tensors of a state dict, which keep every bit.
at::Tensor to_tensor(const std::vector<double>& numbers);

/// Throws, naming `name`, when it is missing, of another dtype, or not `count` numbers (any count where negative).
std::vector<double> numbers_of(const StateDict& state, const std::string& name, int64_t count = -1);
double number_of(const StateDict& state, const std::string& name);

}  // namespace transformers
