#include "utils/distributed/server_port.h"

#include <c10/util/Exception.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

namespace transformers {
namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;
using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Milliseconds left_until(Clock::time_point deadline) {
  return std::max(std::chrono::duration_cast<Milliseconds>(deadline - Clock::now()), Milliseconds(0));
}

/// The result of connecting with this descriptor, which does not block: 0 or an error number.
int outcome(int descriptor, const addrinfo& address, Milliseconds left) {
  if (::connect(descriptor, address.ai_addr, address.ai_addrlen) == 0) {
    return 0;
  }
  if (errno != EINPROGRESS) {
    return errno;
  }
  pollfd wanted{.fd = descriptor, .events = POLLOUT, .revents = 0};
  constexpr Milliseconds kMost(10'000);  // of one attempt
  const int ready = ::poll(&wanted, 1, static_cast<int>(std::min(left, kMost).count()));
  int error = ready < 0 ? errno : ETIMEDOUT;
  socklen_t size = sizeof error;
  if (ready > 0) {
    ::getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &size);
  }
  return error;
}

/// The reason why no connection can be made; empty if one can.
std::string obstacle(const std::string& host, const std::string& port, Clock::time_point deadline) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (const int error = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found); error != 0) {
    return ::gai_strerror(error);
  }
  const Addresses addresses(found, &::freeaddrinfo);
  std::string reason;
  for (const auto* address = found; address != nullptr; address = address->ai_next) {
    const int descriptor = ::socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int error = descriptor < 0 ? errno : outcome(descriptor, *address, left_until(deadline));
    if (descriptor >= 0) {
      ::close(descriptor);
    }
    if (error == 0) {
      return {};
    }
    reason = std::strerror(error);
  }
  return reason;
}

}  // namespace

void wait_for_server(const std::string& host, uint16_t port, Clock::time_point deadline) {
  constexpr Milliseconds kPause(50);
  for (;;) {
    const auto reason = obstacle(host, std::to_string(port), deadline);
    if (reason.empty()) {
      return;
    }
    const auto left = left_until(deadline);
    TORCH_CHECK(left.count() > 0, reason);
    std::this_thread::sleep_for(std::min(kPause, left));
  }
}

}  // namespace transformers
