#include <sys/stat.h>
#include <transformers/utils/files/model_folder.h>
#include <transformers/utils/files/save_transaction.h>
#include <unistd.h>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/files/internal/regular_file.h"
#include "utils/files/internal/save_journal.h"

namespace transformers {
namespace {

using testing::read_file;
using testing::TemporaryFolder;
using testing::write_file;

class SaveTransactionTest : public ::testing::Test {
 protected:
  std::string path() const { return folder_.path().string(); }

  TemporaryFolder folder_;
};

TEST_F(SaveTransactionTest, NothingIsInPlaceBeforeTheCommit) {
  write_file(folder_ / "a", "old");
  SaveTransaction save(path());
  save.write("a", "new");
  save.write("b", [](const ByteSink& sink) {
    sink("one ");
    sink("two");
  });
  EXPECT_EQ(read_file(folder_ / "a"), "old");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "b"));
  save.commit();
  EXPECT_EQ(read_file(folder_ / "a"), "new");
  EXPECT_EQ(read_file(folder_ / "b"), "one two");
}

TEST_F(SaveTransactionTest, ATransactionThatIsGivenUpLeavesNothing) {
  {
    SaveTransaction save(path());
    save.write("a", "new");
    EXPECT_ERROR(save.write("b", [](const ByteSink&) { TORCH_CHECK(false, "the caller failed"); }),
                 "the caller failed");
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
  { const SaveTransaction save(folder_ / "new folder"); }
  EXPECT_FALSE(std::filesystem::exists(folder_ / "new folder"));
}

TEST_F(SaveTransactionTest, CreatesTheFolderButNotItsParents) {
  SaveTransaction save(folder_ / "new");
  save.write("a", "x");
  save.commit();
  EXPECT_EQ(read_file(folder_ / "new/a"), "x");
  EXPECT_ERROR(SaveTransaction(folder_ / "none/new"), "none/new: cannot be created: No such file");
  write_file(folder_ / "file", "");
  EXPECT_ERROR(SaveTransaction(folder_ / "file"), "file: cannot be opened as a folder: Not a directory");
}

TEST_F(SaveTransactionTest, ASecondOneInTheSameFolderIsAnErrorWhileTheFirstLives) {
  {
    const SaveTransaction first(path());
    EXPECT_ERROR(SaveTransaction{path()}, "another process is saving into this folder");
  }
  EXPECT_NO_THROW(SaveTransaction{path()});
}

TEST_F(SaveTransactionTest, RemovesWhatACrashedOneLeft) {
  write_file(folder_ / ".saving-1-0-model.safetensors", "half");
  write_file(folder_ / ".hidden", "kept");
  const SaveTransaction save(path());
  EXPECT_FALSE(std::filesystem::exists(folder_ / ".saving-1-0-model.safetensors"));
  EXPECT_TRUE(std::filesystem::exists(folder_ / ".hidden"));
}

TEST_F(SaveTransactionTest, NamesStayInTheFolder) {
  SaveTransaction save(path());
  for (const auto* name : {"", ".", "..", "../x", "/x", "a/b"}) {
    EXPECT_ERROR(save.write(name, "x"), "expected a plain file name");
    EXPECT_ERROR(save.remove(name), "expected a plain file name");
  }
  EXPECT_ERROR(save.write(".saving-journal", "x"), "the name .saving-journal is kept for temporary files");
}

TEST_F(SaveTransactionTest, AReadOnlyFolderIsOneErrorAndKeepsItsFiles) {
  write_file(folder_ / "a", "old");
  ASSERT_EQ(::chmod(path().c_str(), 0555), 0);
  const auto user = ::geteuid();
  ASSERT_EQ(::seteuid(user == 0 ? 65534 : user), 0);  // the superuser writes everywhere
  EXPECT_ERROR(SaveTransaction(path()).write("a", "new"), "a: cannot be created: Permission denied");
  ASSERT_EQ(::seteuid(user), 0);
  ASSERT_EQ(::chmod(path().c_str(), 0755), 0);
  EXPECT_EQ(read_file(folder_ / "a"), "old");
}

TEST_F(SaveTransactionTest, TheLastCallForANameCounts) {
  write_file(folder_ / "a", "old");
  write_file(folder_ / "b", "old");
  SaveTransaction save(path());
  save.write("a", "first");
  save.write("a", "second");
  save.remove("a");
  save.remove("b");
  save.write("b", "new");
  save.commit();
  EXPECT_FALSE(std::filesystem::exists(folder_ / "a"));
  EXPECT_EQ(read_file(folder_ / "b"), "new");
}

TEST_F(SaveTransactionTest, ASaveThatDiedBetweenItsRenamesIsReadWholeAndFinishedByTheNext) {
  write_file(folder_ / "renamed", "new");
  write_file(folder_ / "waiting", "old");
  write_file(folder_ / "stale", "old");
  write_file(folder_ / ".saving-1-0-waiting", "new");
  write_file(folder_ / ".saving-journal",
             R"({"temporary": [".saving-1-0-renamed", ".saving-1-0-waiting"], "name": ["renamed", "waiting"],
                 "remove": ["stale"]})");
  EXPECT_EQ(read_regular_file(folder_ / "renamed", 10), "new");
  EXPECT_EQ(read_regular_file(folder_ / "waiting", 10), "new");
  EXPECT_FALSE(file_exists(folder_ / "stale"));
  EXPECT_EQ(read_file(folder_ / "waiting"), "old") << "reading a single file changes nothing";

  { const SaveTransaction next(path()); }
  EXPECT_EQ(read_file(folder_ / "waiting"), "new");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "stale"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / ".saving-journal"));
}

TEST_F(SaveTransactionTest, WhoeverLoadsTheFolderFinishesASaveThatDied) {
  write_file(folder_ / ".saving-1-0-a", "new");
  write_file(folder_ / ".saving-journal", R"({"temporary": [".saving-1-0-a"], "name": ["a"], "remove": []})");
  ModelFolder(path()).read_one_save([&] { EXPECT_EQ(read_regular_file(folder_ / "a", 10), "new"); });
  EXPECT_EQ(read_file(folder_ / "a"), "new");
  EXPECT_FALSE(std::filesystem::exists(folder_ / ".saving-journal"));
}

TEST_F(SaveTransactionTest, AJournalNamesPlainFilesOfItsFolderOnly) {
  for (const char* journal : {R"({"temporary": ["config.json"], "name": ["a"], "remove": []})",
                              R"({"temporary": [".saving-x"], "name": ["../a"], "remove": []})",
                              R"({"temporary": [".saving-x"], "name": [".saving-journal"], "remove": []})",
                              R"({"temporary": [".saving-x/../../a"], "name": ["a"], "remove": []})",
                              R"({"temporary": [".saving-x"], "name": [], "remove": []})",
                              R"({"temporary": [], "name": [], "remove": ["../a"]})", R"({"temporary": [)", "[]", ""}) {
    write_file(folder_ / ".saving-journal", journal);
    EXPECT_ERROR(read_regular_file(folder_ / "a", 10), ".saving-journal");
    EXPECT_ERROR(SaveTransaction{path()}, ".saving-journal");
  }
}

TEST_F(SaveTransactionTest, WhatIsReadWhileTheFolderChangesIsReadAgain) {
  write_file(folder_ / "config.json", "1");
  write_file(folder_ / "tokenizer.json", "1");
  int reads = 0;
  std::string both;
  ModelFolder(path()).read_one_save([&] {
    both = read_file(folder_ / "config.json");
    if (++reads == 1) {
      SaveTransaction save(path());
      save.write("config.json", "2");
      save.write("tokenizer.json", "2");
      save.commit();
    }
    both += read_file(folder_ / "tokenizer.json");
  });
  EXPECT_EQ(reads, 2);
  EXPECT_EQ(both, "22");
}

TEST_F(SaveTransactionTest, ALogThatGrowsInTheFolderIsNoReasonToReadAgain) {
  write_file(folder_ / "config.json", "1");
  int reads = 0;
  ModelFolder(path()).read_one_save(
      [&] { write_file(folder_ / "log.jsonl", std::string(static_cast<size_t>(++reads), 'x')); });
  EXPECT_EQ(reads, 1);
}

}  // namespace
}  // namespace transformers
