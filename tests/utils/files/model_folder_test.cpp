#include <transformers/utils/files/model_folder.h>
#include <transformers/utils/files/save_transaction.h>

#include <nlohmann/json.hpp>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/files/internal/folder_json.h"

namespace transformers {
namespace {

using testing::TemporaryFolder;
using testing::write_file;

TEST(ModelFolderTest, PathsOfEveryKindAreFolders) {
  const TemporaryFolder folder;
  write_file(folder / "config.json", "{}");
  const auto path = folder.path().string();
  for (const ModelFolder& given : {ModelFolder(path), ModelFolder(path.c_str()), ModelFolder(folder.path())}) {
    EXPECT_EQ(given.path(), path);
    EXPECT_EQ(given.file("config.json"), path + "/config.json");
    EXPECT_TRUE(given.contains("config.json"));
    EXPECT_FALSE(given.contains("tokenizer.json"));
  }
}

TEST(ModelFolderTest, WithinOneReadingAFileIsParsedOnce) {
  const TemporaryFolder folder;
  write_file(folder / "config.json", R"({"a": 1})");
  const ModelFolder reading(folder.path());
  reading.read_one_save([&] {
    const auto* first = &folder_json(reading, "config.json");
    const ModelFolder copy = reading;
    EXPECT_EQ(&folder_json(copy, "config.json"), first);
  });
}

TEST(ModelFolderTest, EachReadingParsesAnew) {
  const TemporaryFolder folder;
  const ModelFolder reading(folder.path());
  for (int value = 1; value <= 2; ++value) {
    write_file(folder / "config.json", R"({"a": )" + std::to_string(value) + "}");
    EXPECT_EQ(folder_json(reading, "config.json").at("a"), value) << "alone";
    reading.read_one_save([&] { EXPECT_EQ(folder_json(reading, "config.json").at("a"), value); });
  }
}

TEST(ModelFolderTest, AnInnerReadingIsPartOfTheOuterOne) {
  const TemporaryFolder folder;
  write_file(folder / "config.json", R"({"a": 1})");
  const ModelFolder reading(folder.path());
  int outer = 0, inner = 0;
  reading.read_one_save([&] {
    ++outer;
    reading.read_one_save([&] {
      if (++inner == 1) {
        SaveTransaction save(folder.path().string());
        save.write("config.json", R"({"a": 2})");
        save.commit();
      }
    });
  });
  EXPECT_EQ(outer, 2) << "the outer one reads again";
  EXPECT_EQ(inner, 2) << "the inner one does not by itself";
}

TEST(ModelFolderTest, AnErrorEndsAReadingAndTheNextBeginsAnew) {
  const TemporaryFolder folder;
  write_file(folder / "config.json", "{");
  const ModelFolder reading(folder.path());
  const auto read = [&] { reading.read_one_save([&] { folder_json(reading, "config.json"); }); };
  EXPECT_ERROR(read(), "config.json", "not valid JSON");
  write_file(folder / "config.json", "{}");
  EXPECT_NO_THROW(read());
}

}  // namespace
}  // namespace transformers
