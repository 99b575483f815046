#include <c10/util/Exception.h>

#include <algorithm>
#include <limits>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "utils/distributed/environment.h"
#include "utils/distributed/internal/c10d_handles.h"
#include "utils/distributed/internal/collective_error.h"
#include "utils/distributed/server_port.h"

namespace transformers {
namespace {

/// Calls `run`; its exceptions become one sentence about the store.
template <typename Run>
auto naming_store(const std::string& what, Run&& run) {
  try {
    return run();
  } catch (const std::exception& exception) {
    TORCH_CHECK(false, what, ": ", reason_of(exception));
    throw;
  }
}

std::string place_of(const Store::TcpOptions& options) { return options.host + ":" + std::to_string(options.port); }

}  // namespace

Store Store::tcp(const TcpOptions& options) {
  TORCH_CHECK(options.is_server || options.port != 0, "a client of a TCP store needs the server's port, got 0");
  c10d::TCPStoreOptions c10d_options;
  c10d_options.port = options.port;
  c10d_options.isServer = options.is_server;
  c10d_options.waitWorkers = false;  // init_process_group waits, and names the ranks that do not register
  c10d_options.timeout = options.timeout;
  c10d_options.multiTenant = options.multi_tenant;
  c10d_options.useLibUV = options.use_libuv;
  return naming_store("the store at " + place_of(options) + " cannot be reached", [&] {
    if (!options.is_server) {
      const auto start = std::chrono::steady_clock::now();
      wait_for_server(options.host, options.port, start + options.timeout);
      const auto waited = std::chrono::steady_clock::now() - start;
      c10d_options.timeout -= std::chrono::duration_cast<std::chrono::milliseconds>(waited);
      c10d_options.timeout = std::max(c10d_options.timeout, std::chrono::milliseconds(1));  // 0 is for ever
    }
    auto store = c10::make_intrusive<c10d::TCPStore>(options.host, c10d_options);
    store->setTimeout(options.timeout);
    const auto port = store->getPort();
    return Store(std::make_shared<Handle>(Handle{std::move(store), port}));
  });
}

Store Store::file(const std::string& path, int64_t world_size, std::chrono::milliseconds timeout) {
  TORCH_CHECK(world_size >= 1 && world_size <= std::numeric_limits<int>::max(), "world_size must be at least 1, got ",
              world_size);
  return naming_store("the store in the file " + path + " cannot be used", [&] {
    auto store = c10::make_intrusive<c10d::FileStore>(path, static_cast<int>(world_size));
    store->setTimeout(timeout);
    return Store(std::make_shared<Handle>(Handle{std::move(store), std::nullopt}));
  });
}

Store Store::from_environment(int64_t rank, std::chrono::milliseconds timeout) {
  const bool agent_serves = environment_variable("TORCHELASTIC_USE_AGENT_STORE") == "True";
  const auto store =
      tcp({.host = required_variable("MASTER_ADDR"),
           .port = static_cast<uint16_t>(required_integer("MASTER_PORT", 1, std::numeric_limits<uint16_t>::max())),
           .is_server = !agent_serves && rank == 0,
           .timeout = timeout,
           .use_libuv = environment_variable("USE_LIBUV").value_or("1") == "1",
           .multi_tenant = !agent_serves});
  // torchrun's store outlives the workers that it restarts, and so do the keys of earlier workers.
  return store.with_prefix("attempt" + environment_variable("TORCHELASTIC_RESTART_COUNT").value_or("0") + "/of" +
                           environment_variable("WORLD_SIZE").value_or("0"));
}

Store Store::with_prefix(const std::string& prefix) const {
  return Store(
      std::make_shared<Handle>(Handle{c10::make_intrusive<c10d::PrefixStore>(prefix, handle_->store), handle_->port}));
}

void Store::set(const std::string& key, const std::string& value) const {
  naming_store("the store's key '" + key + "' cannot be set", [&] { handle_->store->set(key, value); });
}

std::string Store::get(const std::string& key) const {
  return naming_store("the store's key '" + key + "' cannot be read", [&] { return handle_->store->get_to_str(key); });
}

int64_t Store::add(const std::string& key, int64_t amount) const {
  return naming_store("the store's key '" + key + "' cannot be counted",
                      [&] { return handle_->store->add(key, amount); });
}

bool Store::contains(const std::string& key) const {
  return naming_store("the store cannot be asked for the key '" + key + "'",
                      [&] { return handle_->store->check({key}); });
}

void Store::wait(const std::vector<std::string>& keys, std::chrono::milliseconds timeout) const {
  naming_store("the store's keys cannot be waited for", [&] { handle_->store->wait(keys, timeout); });
}

uint16_t Store::port() const {
  TORCH_CHECK(handle_->port, "only a TCP store has a port");
  return *handle_->port;
}

}  // namespace transformers
