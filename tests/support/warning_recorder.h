#pragma once

#include <c10/util/Exception.h>

#include <string>
#include <vector>

namespace transformers::testing {

/// Keeps what TORCH_WARN says on this thread while it lives.
class WarningRecorder {
 public:
  const std::vector<std::string>& messages() const { return handler_.messages; }
  /// Some message holds the fragment.
  bool saw(const std::string& fragment) const {
    for (const auto& message : handler_.messages) {
      if (message.find(fragment) != std::string::npos) {
        return true;
      }
    }
    return false;
  }

 private:
  struct Handler : c10::WarningHandler {
    void process(const c10::Warning& warning) override { messages.push_back(warning.msg()); }
    std::vector<std::string> messages;
  };
  Handler handler_;
  c10::WarningUtils::WarningHandlerGuard guard_{&handler_};
};

}  // namespace transformers::testing
