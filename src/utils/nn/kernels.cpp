#include <c10/util/Exception.h>
#include <transformers/utils/nn/kernels.h>

#include <stdexcept>

#include "utils/kernels/level.h"

namespace transformers {

void set_kernels(bool enabled) { kernels::set_enabled(enabled); }

const char* kernels_in_use() {
  if (!kernels::enabled()) {
    return "libtorch";
  }
  try {
    return level_name(kernels::active_level());
  } catch (const std::invalid_argument& error) {
    TORCH_CHECK(false, error.what());
  }
}

}  // namespace transformers
