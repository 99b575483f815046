#include "utils/files/internal/file_status.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"

namespace transformers {
namespace {

using testing::TemporaryFolder;
using testing::write_file;

TEST(FileStatusTest, TellsFilesFromFoldersAndFromNothing) {
  const TemporaryFolder folder;
  write_file(folder / "file", "x");
  std::filesystem::create_symlink("file", folder / "link");
  std::filesystem::create_symlink("nowhere", folder / "dangling");
  EXPECT_TRUE(path_exists(folder / "file") && is_regular_file(folder / "file") && !is_folder(folder / "file"));
  EXPECT_TRUE(is_folder(folder.path()) && !is_regular_file(folder.path()));
  EXPECT_TRUE(is_regular_file(folder / "link") && is_same_file(folder / "file", folder / "link"));
  EXPECT_FALSE(path_exists(folder / "dangling") || path_exists(folder / "file/below") || path_exists(folder / "none"));
  EXPECT_FALSE(is_same_file(folder / "none", folder / "none"));
  auto names = names_in_folder(folder.path());
  std::ranges::sort(names);
  EXPECT_EQ(names, (std::vector<std::string>{"dangling", "file", "link"}));
  make_folder(folder / "made");
  make_folder(folder / "made");
  EXPECT_TRUE(is_folder(folder / "made"));
}

TEST(FileStatusTest, WhatTheSystemCannotSayIsAnErrorThatNamesThePath) {
  const TemporaryFolder folder;
  const auto circle = folder / "circle\x1b";
  std::filesystem::create_symlink(circle, circle);
  EXPECT_ERROR(path_exists(circle), "circle\\x1b: cannot be looked at");
  EXPECT_ERROR(is_folder(circle + "/below"), "circle\\x1b/below");
  EXPECT_ERROR(is_same_file(folder.path(), circle), "circle");
  EXPECT_ERROR(make_folder(circle), "circle");
  EXPECT_ERROR(make_folder(folder / "none/below"), "none/below: the folder cannot be created");
  EXPECT_ERROR(names_in_folder(folder / "none"), "none: the folder cannot be read");
  EXPECT_ERROR(path_exists(std::string("a\0b", 3)), "NUL");
}

}  // namespace
}  // namespace transformers
