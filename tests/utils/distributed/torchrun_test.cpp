#include <gmock/gmock.h>
#include <torch/torch.h>
#include <transformers/utils/distributed/process_group.h>
#include <transformers/utils/distributed/torchrun.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/distributed/rank_launcher.h"

namespace transformers {
namespace {

using namespace std::chrono_literals;
using testing::Rank;
using testing::run_on_ranks;
using testing::run_under_torchrun;
using testing::TemporaryFolder;

/// Sets a variable of the environment while it lives.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) { setenv(name, value.c_str(), 1); }
  ~Variable() { unsetenv(name_); }

 private:
  const char* name_;
};

void expect_sum_over_environment() {
  const auto group = init_process_group();
  auto tensor = torch::ones({1});
  group.all_reduce(tensor).wait();
  EXPECT_EQ(tensor.item<int64_t>(), group.size());
  destroy_process_group();
}

TEST(TorchrunTest, OneCallJoinsTheRanksThatTorchrunStarted) {
  for (const int64_t ranks : {2, 4}) {
    run_under_torchrun(ranks, [](const Rank& rank) {
      const auto worker = torchrun_worker();
      ASSERT_TRUE(worker);
      EXPECT_EQ(worker->rank, rank.rank);
      EXPECT_EQ(worker->local_rank, rank.rank);
      EXPECT_EQ(worker->world_size, rank.size);
      EXPECT_EQ(worker->restart_count, 0);
      EXPECT_STREQ(std::getenv("TORCHELASTIC_USE_AGENT_STORE"), "True");
      expect_sum_over_environment();
    });
  }
}

TEST(TorchrunTest, RanksWithoutAnAgentMeetAtRankZero) {
  for (const std::string use_libuv : {"0", "1"}) {
    // A port that the system has just had free.
    const auto port = std::to_string(Store::tcp({.port = 0, .is_server = true}).port());
    run_on_ranks(2, [](const Rank&) { expect_sum_over_environment(); },
                 {.environment = {{"MASTER_ADDR", "localhost"}, {"MASTER_PORT", port}, {"USE_LIBUV", use_libuv}}});
  }
}

TEST(TorchrunTest, ReportsTheRankThatFailedFirstAndWhy) {
  const auto results = run_under_torchrun(2,
                                          [](const Rank& rank) {
                                            const auto status = record([&] {
                                              const auto group = init_process_group({.timeout = 10s});
                                              TORCH_CHECK(rank.rank != 1, "rank 1 has run out of luck");
                                              group.barrier();
                                              return 0;
                                            });
                                            std::_Exit(status);
                                          },
                                          {.expected_status = 1});
  if (!results.empty()) {
    EXPECT_THAT(results[0].output, ::testing::HasSubstr("error: rank 1: rank 1 has run out of luck"));
    EXPECT_THAT(results[0].output, ::testing::ContainsRegex("rank +: 1"));
    EXPECT_THAT(results[0].output, ::testing::HasSubstr("c10::Error: rank 1 has run out of luck"));
  }
}

TEST(TorchrunWorkerTest, IsNoneOutsideTorchrun) { EXPECT_FALSE(torchrun_worker()); }

TEST(TorchrunWorkerTest, NamesTheVariableThatIsMissingOrWrong) {
  const Variable run_id("TORCHELASTIC_RUN_ID", "x");
  EXPECT_ERROR(torchrun_worker(), "RANK", "must be set");
  const Variable rank("RANK", "one");
  EXPECT_ERROR(torchrun_worker(), "RANK", "integer", "'one'");
}

TEST(StoreFromEnvironmentTest, NamesTheVariableThatIsMissingOrWrong) {
  EXPECT_ERROR(Store::from_environment(0), "MASTER_ADDR");
  const Variable address("MASTER_ADDR", "localhost");
  EXPECT_ERROR(Store::from_environment(0), "MASTER_PORT", "must be set");
  const Variable port("MASTER_PORT", "70000");
  EXPECT_ERROR(Store::from_environment(0), "MASTER_PORT", "65535", "'70000'");
}

TEST(RecordTest, GivesTheStatusOfWhatItRuns) {
  EXPECT_EQ(record([] { return 0; }), 0);
  EXPECT_EQ(record([] { return 3; }), 3);
}

TEST(RecordTest, WritesTheErrorFileAsTorchDoes) {
  const TemporaryFolder folder;
  const Variable path("TORCHELASTIC_ERROR_FILE", folder / "error.json");
  EXPECT_EQ(record([]() -> int { throw std::runtime_error("not \xff UTF-8 \"quoted\""); }), 1);
  const auto written = nlohmann::json::parse(testing::read_file(folder / "error.json"));
  EXPECT_THAT(written.at("message").at("message").get<std::string>(),
              ::testing::StartsWith("std::runtime_error: not "));
  EXPECT_GT(std::stoll(written.at("message").at("extraInfo").at("timestamp").get<std::string>()), 1'600'000'000);
}

TEST(RecordTest, SurvivesAnErrorFileThatCannotBeWritten) {
  const Variable path("TORCHELASTIC_ERROR_FILE", "/nowhere/error.json");
  EXPECT_EQ(record([]() -> int { throw std::runtime_error("reason"); }), 1);
}

}  // namespace
}  // namespace transformers
