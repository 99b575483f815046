#include <sys/stat.h>
#include <transformers/utils/io/save_transaction.h>
#include <unistd.h>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"

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
    EXPECT_ERROR(save.link("x", name), "expected a plain file name");
  }
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

TEST_F(SaveTransactionTest, LinksKeepAFileUnderASecondName) {
  write_file(folder_ / "a", "old");
  write_file(folder_ / "a.previous", "older");
  SaveTransaction save(path());
  save.link("a", "a.previous");
  save.write("a", "new");
  save.commit();
  EXPECT_EQ(read_file(folder_ / "a"), "new");
  EXPECT_EQ(read_file(folder_ / "a.previous"), "old");
}

}  // namespace
}  // namespace transformers
