#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

/// A fuzz target is one source that defines try_input(). With Clang and -DTRANSFORMERS_FUZZ=ON it becomes a libFuzzer
/// program (scripts/fuzz.sh runs them all); otherwise replay.cpp runs it over the files in seeds/ and found/ and a
/// fixed number of random changes to the seeds.
namespace transformers::fuzz {

/// Parses the input; may only return or throw c10::Error.
void try_input(std::string_view input);

}  // namespace transformers::fuzz
