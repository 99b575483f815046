#include <transformers/utils/training/tensorboard.h>

#include <cstring>
#include <filesystem>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

// What the real TensorBoard reads of these files is tested in tests/cli/finetune_tasks_test.py.

/// The records of an event file; their checksums are left to TensorBoard.
std::vector<std::string> records_of(const std::string& path) {
  const auto bytes = read_file(path);
  std::vector<std::string> records;
  size_t place = 0;
  while (place < bytes.size()) {
    uint64_t length = 0;
    std::memcpy(&length, bytes.data() + place, sizeof(length));
    records.push_back(bytes.substr(place + 12, length));
    place += 12 + length + 4;
  }
  EXPECT_EQ(place, bytes.size());
  return records;
}

TEST(TensorBoardWriterTest, EveryScalarIsARecordOnTheDiskAtOnce) {
  const TemporaryFolder folder;
  TensorBoardWriter writer(folder / "board");
  EXPECT_TRUE(std::filesystem::path(writer.path()).filename().string().starts_with("events.out.tfevents."));
  writer.add_scalar("loss", 0.5, 300);
  const auto records = records_of(writer.path());
  ASSERT_EQ(records.size(), 2U);
  EXPECT_NE(records[0].find("brain.Event:2"), std::string::npos);
  // After the wall time: step 300 as a varint; a summary with one value: the tag and the float 0.5.
  const std::string expected("\x10\xAC\x02\x2A\x0D\x0A\x0B\x0A\x04loss\x15\x00\x00\x00\x3F", 18);
  EXPECT_EQ(records[1].substr(9), expected);
}

TEST(TensorBoardWriterTest, ARunThatGoesOnPurgesWhatCameLater) {
  const TemporaryFolder folder;
  const TensorBoardWriter first(folder / "board"), second(folder / "board", 5);
  EXPECT_NE(first.path(), second.path());
  const auto records = records_of(second.path());
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[1].substr(9), std::string("\x10\x05\x3A\x02\x08\x01", 6));  // step 5, session log: start
}

TEST(TensorBoardWriterTest, AFolderThatCannotBeMadeIsNamed) {
  const TemporaryFolder folder;
  EXPECT_ERROR(TensorBoardWriter(folder / "none/board"), "none/board", "cannot be created");
  write_file(folder / "file", "");
  EXPECT_ERROR(TensorBoardWriter(folder / "file"), "file");
}

}  // namespace
}  // namespace transformers::testing
