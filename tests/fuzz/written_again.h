#pragma once

#include <c10/util/Exception.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace transformers::fuzz {

/// Reads a config; what was taken must be written so that it is taken again, as the same text.
template <class Config>
void read_and_write_again(std::string_view input) {
  const auto text = Config::from_json(input, "input").to_json();
  std::string again;
  try {
    again = Config::from_json(text, "written").to_json();
  } catch (const c10::Error& error) {
    again = error.what_without_backtrace();
  }
  if (again != text) {
    std::fprintf(stderr, "written:\n%s\nand read again:\n%s\n", text.c_str(), again.c_str());
    std::abort();
  }
}

}  // namespace transformers::fuzz
