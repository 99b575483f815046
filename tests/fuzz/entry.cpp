#include <c10/util/Exception.h>
#include <c10/util/Logging.h>

#include "fuzz/target.h"

namespace {

/// Warnings are no news here, and there would be thousands.
struct Silence : c10::WarningHandler {
  void process(const c10::Warning& /*warning*/) override {}
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  static Silence silence;
  static const bool once = [] {
    c10::WarningUtils::set_warning_handler(&silence);
    // A stack trace takes longer to collect than most inputs to parse.
    c10::SetStackTraceFetcher(std::function<c10::Backtrace()>([] { return c10::Backtrace(); }));
    return true;
  }();
  static_cast<void>(once);
  try {
    transformers::fuzz::try_input({reinterpret_cast<const char*>(bytes), size});
  } catch (const c10::Error&) {
    return 0;  // the one way in which an input may be refused
  }
  return 0;
}
