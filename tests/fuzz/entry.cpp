#include <c10/util/Exception.h>

#include "fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  try {
    transformers::fuzz::try_input({reinterpret_cast<const char*>(bytes), size});
  } catch (const c10::Error&) {
    return 0;  // the one way in which an input may be refused
  }
  return 0;
}
