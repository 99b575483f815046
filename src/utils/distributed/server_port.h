#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace transformers {

/// Returns when something takes connections at the port; throws, with the last reason, when nothing has until the
/// deadline. LibTorch's own store reports every such attempt on stderr, and after its timeout begins once more.
void wait_for_server(const std::string& host, uint16_t port, std::chrono::steady_clock::time_point deadline);

}  // namespace transformers
