#include <c10/util/Exception.h>
#include <c10/util/Type.h>
#include <transformers/utils/distributed/torchrun.h>

#include <charconv>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>

#include "utils/distributed/environment.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

constexpr auto kMostRanks = std::numeric_limits<int32_t>::max();

void write_error_file(const std::string& path, const std::string& message) {
  // The format is that of torch's ErrorHandler; torchrun reads message and timestamp.
  const nlohmann::json content = {
      {"message",
       {{"message", message},
        {"extraInfo", {{"py_callstack", message}, {"timestamp", std::to_string(std::time(nullptr))}}}}}};
  std::ofstream file(path);
  file << content.dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
  if (!file.flush()) {
    TORCH_WARN("the error file ", path, " cannot be written");
  }
}

int record_exception(const std::exception& exception) {
  const auto* error = dynamic_cast<const c10::Error*>(&exception);
  const std::string message = error ? error->what_without_backtrace() : exception.what();
  const auto rank = environment_variable("RANK");
  std::cerr << printable_line("error: " + (rank ? "rank " + *rank + ": " : std::string()) + message) + '\n'
            << std::flush;
  if (const auto path = environment_variable("TORCHELASTIC_ERROR_FILE")) {
    write_error_file(*path, c10::demangle(typeid(exception).name()) + ": " + message);
  }
  return 1;
}

}  // namespace

std::optional<std::string> environment_variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? std::optional<std::string>(value) : std::nullopt;
}

std::string required_variable(const char* name) {
  const auto value = environment_variable(name);
  TORCH_CHECK(value, "the environment variable ", name, " must be set: torchrun sets it");
  return *value;
}

int64_t required_integer(const char* name, int64_t least, int64_t most) {
  const auto text = required_variable(name);
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  TORCH_CHECK(error == std::errc() && end == text.data() + text.size() && number >= least && number <= most,
              "the environment variable ", name, " must be an integer in [", least, ", ", most, "], got '", text, "'");
  return number;
}

std::optional<TorchrunWorker> torchrun_worker() {
  const auto run_id = environment_variable("TORCHELASTIC_RUN_ID");
  if (!run_id) {
    return std::nullopt;
  }
  return TorchrunWorker{.rank = required_integer("RANK", 0, kMostRanks),
                        .local_rank = required_integer("LOCAL_RANK", 0, kMostRanks),
                        .world_size = required_integer("WORLD_SIZE", 1, kMostRanks),
                        .local_world_size = required_integer("LOCAL_WORLD_SIZE", 1, kMostRanks),
                        .restart_count = required_integer("TORCHELASTIC_RESTART_COUNT", 0, kMostRanks),
                        .max_restarts = required_integer("TORCHELASTIC_MAX_RESTARTS", 0, kMostRanks),
                        .run_id = *run_id};
}

int record(const std::function<int()>& main) {
  try {
    return main();
  } catch (const std::exception& exception) {
    return record_exception(exception);
  }
}

}  // namespace transformers
