#pragma once

#include <c10/util/Exception.h>

#include <cstdlib>
#include <string>
#include <string_view>

namespace transformers::fuzz {

/// Reads a config; what was taken must be written so that it is taken again, as the same text.
template <class Config>
void read_and_write_again(std::string_view input) {
  const auto text = Config::from_json(input, "input").to_json();
  try {
    if (Config::from_json(text, "written").to_json() != text) {
      std::abort();
    }
  } catch (const c10::Error&) {
    std::abort();
  }
}

}  // namespace transformers::fuzz
