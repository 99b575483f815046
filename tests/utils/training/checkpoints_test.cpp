#include "utils/training/checkpoints.h"

#include <filesystem>

#include "support/golden_collection.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/training/training_state.h"

namespace transformers::testing {
namespace {

namespace fs = std::filesystem;

/// A checkpoint that counts as complete, with `text` as its model.
void write(const std::string& folder, const std::string& text = "") {
  write_checkpoint(folder, [&](const std::string& made) {
    write_file(made + "/model", text);
    write_file(made + "/" + kTrainingStateFile, "");
  });
}

std::string names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  std::string all;
  for (const auto& name : names) {
    all += name + " ";
  }
  return all;
}

TEST(CheckpointsTest, RotationLeavesWhatPythonLeaves) {
  const auto cases = golden_cases("training", "rotations");
  ASSERT_EQ(cases.size(), 5U);
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    const TemporaryFolder folder;
    const auto output_dir = folder.path().string();
    for (size_t i = 0; i < c.arguments["steps"].size(); ++i) {
      const auto newest = checkpoint_folder(output_dir, c.arguments["steps"][i].get<int64_t>());
      const auto best = c.arguments["best"][i].get<int64_t>();
      write(newest);
      const auto written = fs::file_time_type(std::chrono::seconds(1000 + i));
      fs::last_write_time(newest + "/" + kTrainingStateFile, written);
      rotate_checkpoints(output_dir, c.get<int64_t>("limit"), newest,
                         best > 0 ? checkpoint_folder(output_dir, best) : "");
      EXPECT_EQ(checkpoint_steps(output_dir), c.arguments["left"][i].get<std::vector<int64_t>>());
    }
  }
}

TEST(CheckpointsTest, AWriteThatFailsLeavesTheOldCheckpointWhole) {
  const TemporaryFolder folder;
  const auto checkpoint = folder / "checkpoint-4";
  write(checkpoint, "old");
  EXPECT_ERROR(write_checkpoint(checkpoint,
                                [](const std::string& made) {
                                  write_file(made + "/model", "half");
                                  TORCH_CHECK(false, "no space");
                                }),
               "no space");
  EXPECT_EQ(names_in(folder.path()), "checkpoint-4 ");
  EXPECT_EQ(read_file(checkpoint + "/model"), "old");
}

TEST(CheckpointsTest, ACheckpointReplacesOneOfItsNameAndLeftoversOfACrashGo) {
  const TemporaryFolder folder;
  write(folder / "checkpoint-4", "old");
  fs::create_directories(folder.path() / ".saving-checkpoint-2");
  write_file(folder / ".saving-checkpoint-2/model", "half");
  write(folder / "checkpoint-4", "new");
  EXPECT_EQ(names_in(folder.path()), "checkpoint-4 ");
  EXPECT_EQ(read_file(folder / "checkpoint-4/model"), "new");
}

TEST(CheckpointsTest, AFolderThatCannotBeMadeIsNamed) {
  const TemporaryFolder folder;
  write_file(folder / "file", "");
  EXPECT_ERROR(write(folder / "file/checkpoint-1"), "file/", "cannot be created");
}

}  // namespace
}  // namespace transformers::testing
