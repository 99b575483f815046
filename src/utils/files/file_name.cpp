#include "utils/files/internal/file_name.h"

#include <c10/util/Exception.h>

#include "utils/text/printable.h"

namespace transformers {

void check_plain_file_name(std::string_view name, const std::string& source) {
  constexpr std::string_view kForbidden("/\\\0", 3);
  const bool plain =
      !name.empty() && name != "." && name != ".." && name.find_first_of(kForbidden) == std::string_view::npos;
  TORCH_CHECK(plain, source, ": expected a plain file name, found \"", printable(name), "\"");
}

}  // namespace transformers
