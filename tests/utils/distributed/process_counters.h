#pragma once

#include <dirent.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>

namespace transformers::testing {

/// A line such as "VmHWM:   1234 kB" of /proc/self/status, in bytes.
inline int64_t process_bytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":")) {
      return std::stoll(line.substr(field.size() + 1)) * 1024;
    }
  }
  return 0;
}

/// Lets the peak VmHWM begin anew.
inline void forget_peak() { std::ofstream("/proc/self/clear_refs") << 5; }

/// What all TCP connections of this process have sent so far.
inline int64_t sent_bytes() {
  int64_t bytes = 0;
  DIR* folder = opendir("/proc/self/fd");
  for (const dirent* entry = readdir(folder); entry != nullptr; entry = readdir(folder)) {
    tcp_info info{};
    socklen_t size = sizeof info;
    if (getsockopt(std::atoi(entry->d_name), IPPROTO_TCP, TCP_INFO, &info, &size) == 0) {
      bytes += static_cast<int64_t>(info.tcpi_bytes_sent);
    }
  }
  closedir(folder);
  return bytes;
}

}  // namespace transformers::testing
