#include "utils/files/internal/regular_file.h"

#include <sys/stat.h>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"

namespace transformers {
namespace {

using testing::TemporaryFolder;
using testing::write_file;

TEST(RegularFileTest, ReadsTheWholeFileAlsoThroughALink) {
  const TemporaryFolder folder;
  write_file(folder / "a file ü", std::string_view("x\0y", 3));
  std::filesystem::create_symlink("a file ü", folder / "link");
  EXPECT_EQ(read_regular_file(folder / "link", 3), std::string("x\0y", 3));
}

TEST(RegularFileTest, RefusesMoreThanTheLimit) {
  const TemporaryFolder folder;
  write_file(folder / "file", "1234");
  EXPECT_ERROR(read_regular_file(folder / "file", 3), "at most 3 bytes", "found 4");
}

TEST(RegularFileTest, RefusesWhatIsNoRegularFile) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("loop", folder / "loop");
  EXPECT_ERROR(RegularFile(folder.path().string()), "expected a regular file, found a folder");
  EXPECT_ERROR(RegularFile(folder / "pipe"), "found a pipe");
  EXPECT_ERROR(RegularFile("/dev/zero"), "found a device");
  EXPECT_ERROR(RegularFile(folder / "loop"), "loop: cannot be opened");
  EXPECT_ERROR(RegularFile(folder / "none"), "none: cannot be opened: No such file");
  EXPECT_ERROR(RegularFile(std::string("a\0b", 3)), "a\\x00b", "no NUL");
}

}  // namespace
}  // namespace transformers
