#include <c10/util/Exception.h>

#include "fuzz/target.h"

namespace {

/// Warnings are no news here, and there would be thousands.
struct Silence : c10::WarningHandler {
  void process(const c10::Warning& /*warning*/) override {}
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  Silence silence;
  const c10::WarningUtils::WarningHandlerGuard guard(&silence);
  try {
    transformers::fuzz::try_input({reinterpret_cast<const char*>(bytes), size});
  } catch (const c10::Error&) {
    return 0;  // the one way in which an input may be refused
  }
  return 0;
}
