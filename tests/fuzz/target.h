#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

/// A fuzz target is one source that defines seeds() and try_input(). With Clang and -DTRANSFORMERS_FUZZ=ON it becomes a
/// libFuzzer program; otherwise replay.cpp runs it over the seeds and a fixed number of random changes to them.
namespace transformers::fuzz {

/// Good inputs, from which the bad ones are made.
std::vector<std::string> seeds();

/// Parses the input; may only return or throw c10::Error.
void try_input(std::string_view input);

}  // namespace transformers::fuzz
