// Stops a save at each of its writes, syncs, renames, links and removals, once by an error and once by the end of the
// process, and reads what is then in the folder. The functions of the system are replaced in this program.
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <transformers/utils/files/model_folder.h>
#include <transformers/utils/files/save_transaction.h>
#include <transformers/utils/io/checkpoint.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <map>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/files/internal/regular_file.h"
#include "utils/files/internal/save_journal.h"
#include "utils/io/file_builders.h"

namespace {

enum class Fault { kNone, kError, kDeath };

Fault fault = Fault::kNone;
int calls_before_fault = 0;

/// True when this call is to fail; does not return when the process is to end here.
bool fails_here() {
  if (fault == Fault::kNone || calls_before_fault-- != 0) {
    return false;
  }
  if (fault == Fault::kDeath) {
    ::_exit(99);
  }
  fault = Fault::kNone;  // the next call works again
  errno = ENOSPC;
  return true;
}

int result_of(long status) { return static_cast<int>(status); }

}  // namespace

extern "C" ssize_t write(int descriptor, const void* bytes, size_t size) {
  if (fault != Fault::kNone && size > 1) {
    // A write that is cut short, and another one after it.
    size /= 2;
  }
  return fails_here() ? -1 : ::syscall(SYS_write, descriptor, bytes, size);
}

// What a process wrote outlives it without a sync, so the real one would only take time here.
extern "C" int fsync(int /*descriptor*/) { return fails_here() ? -1 : 0; }

extern "C" int rename(const char* from, const char* to) noexcept {
  return fails_here() ? -1 : result_of(::syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to));
}

extern "C" int link(const char* from, const char* to) noexcept {
  return fails_here() ? -1 : result_of(::syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0));
}

extern "C" int unlink(const char* path) noexcept {
  return fails_here() ? -1 : result_of(::syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}

namespace transformers {
namespace {

using testing::make_tensors;
using testing::TemporaryFolder;
using testing::Tensors;

Tensors state_of(float value) {
  return make_tensors({{"a", torch::full({8}, value)}, {"b", torch::full({8}, value)}, {"c", torch::full({8}, value)}});
}

/// The value that all tensors of the folder hold; fails when they differ.
float value_in(const std::string& folder) {
  const Checkpoint checkpoint(folder);
  EXPECT_EQ(checkpoint.tensors().size(), 3);
  const auto all = torch::cat({checkpoint.tensor("a"), checkpoint.tensor("b"), checkpoint.tensor("c")});
  EXPECT_EQ(all.min().item<float>(), all.max().item<float>()) << "a mixture of two saves";
  return all[0].item<float>();
}

bool has_leftovers(const std::string& folder) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const auto name = entry.path().filename().string();
    if (name.starts_with(".")) {
      return true;
    }
  }
  return false;
}

struct Scenario {
  const char* what;
  int64_t old_shard_size, new_shard_size;
};

class SaveFaultsTest : public ::testing::TestWithParam<Scenario> {
 protected:
  static constexpr float kOld = 1, kNew = 2;

  void save_old(const std::string& folder) const {
    save_checkpoint(folder, state_of(kOld), {.max_shard_size = GetParam().old_shard_size});
  }

  void save_new(const std::string& folder) const {
    save_checkpoint(folder, state_of(kNew), {.max_shard_size = GetParam().new_shard_size});
  }

  void expect_that_saving_again_works(const std::string& folder) const {
    save_new(folder);
    EXPECT_EQ(value_in(folder), kNew);
    EXPECT_FALSE(has_leftovers(folder));
  }
};

constexpr int kMoreThanAllCalls = 1000;

TEST_P(SaveFaultsTest, AnErrorLeavesTheOldOrTheNewSet) {
  bool done = false;
  int calls = 0;
  for (; !done && calls < kMoreThanAllCalls; ++calls) {
    const TemporaryFolder temporary;
    const auto folder = temporary.path().string();
    save_old(folder);
    calls_before_fault = calls;
    fault = Fault::kError;
    try {
      save_new(folder);
      done = fault == Fault::kError;  // nothing failed: all calls have had their turn
    } catch (const c10::Error& error) {
      EXPECT_NE(std::string(error.what()).find("No space left"), std::string::npos);
    }
    fault = Fault::kNone;
    const auto value = value_in(folder);
    EXPECT_TRUE(value == kOld || value == kNew) << "call " << calls;
    expect_that_saving_again_works(folder);
  }
  EXPECT_TRUE(done);
  EXPECT_GT(calls, 5);
}

TEST_P(SaveFaultsTest, TheEndOfTheProcessLeavesTheOldOrTheNewSet) {
  bool done = false;
  for (int calls = 0; !done && calls < kMoreThanAllCalls; ++calls) {
    const TemporaryFolder temporary;
    const auto folder = temporary.path().string();
    save_old(folder);
    const auto child = ::fork();
    if (child == 0) {
      calls_before_fault = calls;
      fault = Fault::kDeath;
      save_new(folder);
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    done = status == 0;
    ASSERT_TRUE(done || WEXITSTATUS(status) == 99);
    const auto value = value_in(folder);
    EXPECT_TRUE(value == kOld || value == kNew) << "call " << calls;
    expect_that_saving_again_works(folder);
  }
  EXPECT_TRUE(done);
}

// Three tensors of 32 bytes each.
INSTANTIATE_TEST_SUITE_P(Folders, SaveFaultsTest,
                         ::testing::Values(Scenario{"OneFileToOneFile", 1000, 1000},
                                           Scenario{"OneFileToShards", 1000, 64}, Scenario{"ShardsToOneFile", 64, 1000},
                                           Scenario{"ShardsToAsManyShards", 64, 64},
                                           Scenario{"ShardsToMoreShards", 64, 32}),
                         [](const auto& info) { return info.param.what; });

TEST(SaveTransactionFaultsTest, AnErrorBeforeTheCommitTouchesNothing) {
  const TemporaryFolder folder;
  testing::write_file(folder / "config.json", "old");
  for (int calls = 0; calls < 3; ++calls) {  // two halves of the text, and the sync
    calls_before_fault = calls;
    fault = Fault::kError;
    EXPECT_ERROR(SaveTransaction(folder.path().string()).write("config.json", "12"), "config.json: cannot be",
                 "No space");
    fault = Fault::kNone;
    EXPECT_EQ(testing::read_file(folder / "config.json"), "old");
    EXPECT_FALSE(has_leftovers(folder.path().string()));
  }
}

/// A folder whose files must be those of one save: two that stay, one that goes, one that comes.
class TogetherTest : public ::testing::Test {
 protected:
  using Files = std::map<std::string, std::string>;
  inline static const Files kOld{{"model", "old"}, {"config", "old"}, {"tokenizer", "old"}};
  inline static const Files kNew{{"model", "new"}, {"config", "new"}, {"index", "new"}};

  static void save(const std::string& folder, const Files& files) {
    SaveTransaction save(folder);
    for (const auto& [name, text] : files) {
      save.write(name, text);
    }
    for (const char* name : {"model", "config", "tokenizer", "index"}) {
      if (!files.contains(name)) {
        save.remove(name);
      }
    }
    save.commit();
  }

  /// What this library finds, without changing anything.
  static Files found_by_reading(const std::string& folder) {
    Files files;
    for (const char* name : {"model", "config", "tokenizer", "index"}) {
      if (const auto path = folder + "/" + name; file_exists(path)) {
        files.emplace(name, read_regular_file(path, 10));
      }
    }
    return files;
  }

  static Files found_by_others(const std::string& folder) {
    Files files;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (const auto name = entry.path().filename().string(); !name.starts_with(".saving-")) {
        files.emplace(name, testing::read_file(entry.path()));
      }
    }
    return files;
  }

  static void check(const std::string& folder, int calls) {
    const auto found = found_by_reading(folder);
    EXPECT_TRUE(found == kOld || found == kNew) << "call " << calls;
    ModelFolder(folder).read_one_save([] {});
    EXPECT_EQ(found_by_others(folder), found) << "call " << calls;
    save(folder, kNew);
    EXPECT_EQ(found_by_others(folder), kNew);
    EXPECT_FALSE(has_leftovers(folder));
  }
};

TEST_F(TogetherTest, AnErrorAtAnyCallLeavesFilesOfOneSave) {
  bool done = false;
  for (int calls = 0; !done && calls < kMoreThanAllCalls; ++calls) {
    const TemporaryFolder temporary;
    const auto folder = temporary.path().string();
    save(folder, kOld);
    calls_before_fault = calls;
    fault = Fault::kError;
    try {
      save(folder, kNew);
      done = fault == Fault::kError;
    } catch (const c10::Error&) {
    }
    fault = Fault::kNone;
    check(folder, calls);
  }
  EXPECT_TRUE(done);
}

TEST_F(TogetherTest, DeathAtAnyCallLeavesFilesOfOneSave) {
  bool done = false;
  for (int calls = 0; !done && calls < kMoreThanAllCalls; ++calls) {
    const TemporaryFolder temporary;
    const auto folder = temporary.path().string();
    save(folder, kOld);
    const auto child = ::fork();
    if (child == 0) {
      calls_before_fault = calls;
      fault = Fault::kDeath;
      save(folder, kNew);
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    done = status == 0;
    check(folder, calls);
  }
  EXPECT_TRUE(done);
}

/// The message of a save of two files and a removal whose call number `calls` fails.
std::string failing_save(const TemporaryFolder& folder, int calls) {
  testing::write_file(folder / "stale", "");
  SaveTransaction save(folder.path().string());
  save.remove("stale");
  save.remove("never there");
  save.write("first", "1");
  save.write("last", "2");
  calls_before_fault = calls;
  fault = Fault::kError;
  std::string message;
  try {
    save.commit();
  } catch (const c10::Error& error) {
    message = error.what_without_backtrace();
  }
  fault = Fault::kNone;
  return message;
}

TEST(SaveTransactionFaultsTest, ProgramsThatDoNotKnowTheJournalSeeTheNamesInTheOrderOfTheCallsAndRemovalsLast) {
  for (int calls = 0; calls < kMoreThanAllCalls; ++calls) {
    const TemporaryFolder folder;
    const auto message = failing_save(folder, calls);
    ASSERT_NE(message, "") << "the renaming of last never failed";
    if (message.find("/last: cannot be put in place: No space left") != std::string::npos) {
      EXPECT_TRUE(std::filesystem::exists(folder / "first"));
      EXPECT_FALSE(std::filesystem::exists(folder / "last"));
      EXPECT_TRUE(std::filesystem::exists(folder / "stale"));
      return;
    }
  }
}

}  // namespace
}  // namespace transformers
