#include "utils/distributed/internal/collective_error.h"

#include <algorithm>

namespace transformers {
namespace {

/// "[.../pair.cc:547] Connection closed" without the part in brackets.
std::string without_source_place(const std::string& text) {
  const auto end = text.find("] ");
  const bool has_place = text.starts_with('[') && end != std::string::npos && text.substr(0, end).find(':') < end;
  return has_place ? text.substr(end + 2) : text;
}

}  // namespace

std::string reason_of(const std::exception& exception) {
  const auto* error = dynamic_cast<const c10::Error*>(&exception);
  auto text = without_source_place(error ? error->what_without_backtrace() : exception.what());
  std::replace(text.begin(), text.end(), '\n', ' ');
  text.erase(text.find_last_not_of(" .") + 1);
  return text;
}

}  // namespace transformers
