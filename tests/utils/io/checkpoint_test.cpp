#include <gmock/gmock.h>
#include <transformers/utils/io/checkpoint.h>
#include <transformers/utils/io/safetensors.h>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/io/file_builders.h"

namespace transformers {
namespace {

using testing::make_tensors;
using testing::TemporaryFolder;
using testing::Tensors;
using testing::torch_zip;
using testing::write_file;

/// Keeps the warnings given while it lives.
class WarningWatch : public c10::WarningHandler {
 public:
  void process(const c10::Warning& warning) override { text += warning.msg() + "\n"; }

  std::string text;

 private:
  c10::WarningUtils::WarningHandlerGuard guard_{this};
};

class CheckpointTest : public ::testing::Test {
 protected:
  void save(const std::string& name, const Tensors& tensors) { save_safetensors(folder_ / name, tensors); }

  void write_index(const std::string& text) { write_file(folder_ / "model.safetensors.index.json", text); }

  /// Two shards: a.safetensors with `first`, b.safetensors with `second`.
  void save_two_shards() {
    save("a.safetensors", make_tensors({{"first", torch::ones({2})}}));
    save("b.safetensors", make_tensors({{"second", torch::zeros({3}, torch::kHalf)}}));
  }

  Checkpoint open() const { return Checkpoint(folder_.path().string()); }

  TemporaryFolder folder_;
};

TEST_F(CheckpointTest, PrefersSafetensorsThenItsIndexThenTheTorchFiles) {
  const auto pickle = [](const char* name) {
    namespace p = testing::pickle;
    return torch_zip(p::whole(p::dict({p::text(name), p::tensor(p::storage("FloatStorage", "0", 1), 0, {1}, {1})})),
                     {"1234"});
  };
  EXPECT_ERROR(open(),
               "holds no weights; expected one of model.safetensors, model.safetensors.index.json, "
               "pytorch_model.bin, pytorch_model.bin.index.json");
  write_file(folder_ / "shard.bin", pickle("from_index_of_bin"));
  write_file(folder_ / "pytorch_model.bin.index.json", R"({"weight_map":{"from_index_of_bin":"shard.bin"}})");
  EXPECT_TRUE(open().contains("from_index_of_bin"));
  write_file(folder_ / "pytorch_model.bin", pickle("from_bin"));
  EXPECT_TRUE(open().contains("from_bin"));
  save_two_shards();
  write_index(R"({"weight_map":{"first":"a.safetensors"}})");
  EXPECT_TRUE(open().contains("first"));
  save("model.safetensors", make_tensors({{"single", torch::ones({1})}}));
  EXPECT_TRUE(open().contains("single"));
}

TEST_F(CheckpointTest, VariantsCarryTheirNameAsInHuggingFace) {
  save("model.fp16.safetensors", make_tensors({{"single", torch::ones({1})}}));
  save_two_shards();
  write_file(folder_ / "model.safetensors.index.8bit.json", R"({"weight_map":{"first":"a.safetensors"}})");
  EXPECT_TRUE(Checkpoint(folder_.path().string(), "fp16").contains("single"));
  EXPECT_TRUE(Checkpoint(folder_.path().string(), "8bit").contains("first"));
  EXPECT_ERROR(Checkpoint(folder_.path().string(), "fp32"), "expected one of model.fp32.safetensors");
  EXPECT_ERROR(Checkpoint(folder_.path().string(), "/../x"), "variant: expected a plain file name");
}

TEST_F(CheckpointTest, ShardsAreOneSet) {
  save_two_shards();
  write_index(R"({"metadata":{"total_size":14},"weight_map":{"second":"b.safetensors","first":"a.safetensors"}})");
  WarningWatch warnings;
  const auto checkpoint = open();
  ASSERT_EQ(checkpoint.tensors().size(), 2);
  EXPECT_EQ(checkpoint.tensors()[0].name, "first");
  EXPECT_EQ(checkpoint.tensors()[1].name, "second");
  EXPECT_EQ(checkpoint.tensors()[1].file, "b.safetensors");
  EXPECT_EQ(checkpoint.tensors()[1].dtype, torch::kHalf);
  EXPECT_EQ(checkpoint.tensors()[1].shape, std::vector<int64_t>{3});
  EXPECT_EQ(checkpoint.bytes(), 14);
  EXPECT_EQ(checkpoint.files(), (std::vector<std::string>{"a.safetensors", "b.safetensors"}));
  EXPECT_TENSORS_EQUAL(checkpoint.tensor("first"), torch::ones({2}));
  checkpoint.drop_pages("first");
  EXPECT_TENSORS_EQUAL(checkpoint.tensor("first"), torch::ones({2}));
  EXPECT_ERROR(checkpoint.tensor("third"), "hold no tensor third");
  EXPECT_EQ(warnings.text, "");
}

TEST_F(CheckpointTest, AcceptsOneShardAndNoMetadata) {
  save("a.safetensors", make_tensors({{"first", torch::ones({2})}}));
  write_index(R"({"weight_map":{"first":"a.safetensors"},"other":1})");
  EXPECT_EQ(open().tensors().size(), 1);
  write_index(R"({"weight_map":{},"metadata":null})");
  EXPECT_EQ(open().tensors().size(), 0);
}

TEST_F(CheckpointTest, FollowsLinksAsCachesUseThem) {
  const TemporaryFolder blobs;
  save_safetensors(blobs / "4d7a", make_tensors({{"first", torch::ones({2})}}));
  write_file(blobs / "index", R"({"weight_map":{"first":"a.safetensors"}})");
  std::filesystem::create_symlink(blobs / "4d7a", folder_ / "a.safetensors");
  std::filesystem::create_symlink(blobs / "index", folder_ / "model.safetensors.index.json");
  const TemporaryFolder elsewhere;
  std::filesystem::create_directory_symlink(folder_.path(), elsewhere.path() / "modèle 1");
  EXPECT_TRUE(Checkpoint(elsewhere / "modèle 1").contains("first"));
}

TEST_F(CheckpointTest, WarnsAboutWhatIsOddButHarmless) {
  save("a.safetensors", make_tensors({{"w", torch::ones({2})}, {"extra\n", torch::ones({1})}}));
  write_index(R"({"weight_map":{"w":"a.safetensors"}})");
  {
    WarningWatch warnings;
    const auto checkpoint = open();
    EXPECT_EQ(checkpoint.unlisted(), std::vector<std::string>{"extra\n"});
    EXPECT_FALSE(checkpoint.contains("extra\n"));
    EXPECT_THAT(warnings.text, ::testing::HasSubstr("does not list the tensor extra\\x0a"));
  }
  save("a.safetensors", make_tensors({{"w", torch::ones({2})}, {"W", torch::ones({1})}}));
  write_index(R"({"metadata":{"total_size":11},"weight_map":{"w":"a.safetensors","W":"a.safetensors"}})");
  WarningWatch warnings;
  EXPECT_EQ(open().tensors().size(), 2);
  EXPECT_THAT(warnings.text, ::testing::HasSubstr("total_size is 11, the shards hold 12 bytes"));
  EXPECT_THAT(warnings.text, ::testing::HasSubstr("the tensor names W and w differ only in case"));
}

struct BadIndex {
  const char* what;
  std::string text;
  std::string fragment;
};

class RefusedIndexTest : public CheckpointTest, public ::testing::WithParamInterface<BadIndex> {};

TEST_P(RefusedIndexTest, IsOneErrorThatNamesTheIndex) {
  save_two_shards();
  std::filesystem::create_directory(folder_ / "folder.safetensors");
  std::filesystem::create_symlink("loop.safetensors", folder_ / "loop.safetensors");
  write_file(folder_ / "pointer.safetensors", "version https://git-lfs.github.com/spec/v1\n");
  write_index(GetParam().text);
  EXPECT_ERROR(open(), GetParam().fragment);
}

INSTANTIATE_TEST_SUITE_P(
    Texts, RefusedIndexTest,
    ::testing::Values(
        BadIndex{"NoObject", "[]", "model.safetensors.index.json: expected an object, found array"},
        BadIndex{"NoWeightMap", R"({"metadata":{}})", "index.json: key weight_map is missing"},
        BadIndex{"WeightMapIsList", R"({"weight_map":[]})", "index.json: weight_map must be an object, found array"},
        BadIndex{"ValueIsNumber", R"({"weight_map":{"w":1}})",
                 "weight_map: w: expected a plain file name, found number"},
        BadIndex{"Separator", R"({"weight_map":{"w":"x/a.safetensors"}})",
                 "plain file name, found \"x/a.safetensors\""},
        BadIndex{"Backslash", R"({"weight_map":{"w":"x\\a.safetensors"}})", "expected a plain file name"},
        BadIndex{"ParentFolder", R"({"weight_map":{"w":".."}})", "expected a plain file name, found \"..\""},
        BadIndex{"ThroughParent", R"({"weight_map":{"w":"../a.safetensors"}})", "expected a plain file name"},
        BadIndex{"Absolute", R"({"weight_map":{"w":"/etc/passwd"}})", "expected a plain file name"},
        BadIndex{"EmptyName", R"({"weight_map":{"w":""}})", "expected a plain file name, found \"\""},
        BadIndex{"Nul", R"({"weight_map":{"w":"a.safetensors\u0000x"}})", "expected a plain file name"},
        BadIndex{"DuplicateKey", R"({"weight_map":{"w":"a.safetensors","w":"b.safetensors"}})",
                 "duplicate key weight_map.w"},
        BadIndex{"DuplicateWeightMap", R"({"weight_map":{},"weight_map":{}})", "duplicate key weight_map"},
        BadIndex{"MissingFiles",
                 R"({"weight_map":{"v":"x1.safetensors","w":"x2.safetensors","first":"a.safetensors"}})",
                 "index.json: the folder lacks files that it lists: x1.safetensors, x2.safetensors"},
        BadIndex{"Folder", R"({"weight_map":{"w":"folder.safetensors"}})",
                 "folder.safetensors: expected a regular file"},
        BadIndex{"LinkLoop", R"({"weight_map":{"w":"loop.safetensors"}})",
                 "loop.safetensors: cannot be opened: Too many"},
        BadIndex{"ShardIsPointer", R"({"weight_map":{"w":"pointer.safetensors"}})", "this is a Git LFS pointer"},
        BadIndex{"ShardsLackNames",
                 R"({"weight_map":{"second":"b.safetensors","v":"a.safetensors","w":"b.safetensors"}})",
                 "index.json: the shard it names lacks the tensor: v (a.safetensors), w (b.safetensors)"}),
    [](const auto& info) { return info.param.what; });

TEST_F(CheckpointTest, ATensorInTwoShardsIsAnError) {
  save("a.safetensors", make_tensors({{"w", torch::ones({2})}}));
  save("b.safetensors", make_tensors({{"v", torch::ones({2})}, {"w", torch::ones({2})}}));
  write_index(R"({"weight_map":{"w":"a.safetensors","v":"b.safetensors"}})");
  EXPECT_ERROR(open(), "a tensor lies in two shards: w (in b.safetensors, listed in a.safetensors)");
}

TEST_F(CheckpointTest, EveryShardIsCheckedBeforeTheFirstTensor) {
  save_two_shards();
  write_file(folder_ / "b.safetensors", "damaged!");
  write_index(R"({"weight_map":{"first":"a.safetensors","second":"b.safetensors"}})");
  EXPECT_ERROR(open(), "b.safetensors: expected a safetensors file");
}

TEST_F(CheckpointTest, AFolderIsExpected) {
  EXPECT_ERROR(Checkpoint(folder_ / "none"), "none: expected a folder with weights");
}

TEST_F(CheckpointTest, ShardsOfTorchFilesAreOneSetToo) {
  namespace p = testing::pickle;
  write_file(folder_ / "1.bin",
             torch_zip(p::whole(p::dict({p::text("epoch"), p::integer(3), p::text("a"),
                                         p::tensor(p::storage("FloatStorage", "0", 2), 0, {2}, {1}), p::text("tied"),
                                         p::tensor(p::storage("FloatStorage", "0", 2), 0, {2}, {1})})),
                       {std::string(8, '\0')}));
  write_file(folder_ / "pytorch_model.bin.index.json",
             R"({"metadata":{"total_size":8},"weight_map":{"a":"1.bin","tied":"1.bin"}})");
  WarningWatch warnings;
  const auto checkpoint = open();
  EXPECT_EQ(warnings.text, "");
  EXPECT_EQ(checkpoint.bytes(), 8);
  EXPECT_EQ(checkpoint.skipped(), std::vector<std::string>{"epoch (integer)"});
  EXPECT_EQ(checkpoint.tensor("a").data_ptr(), checkpoint.tensor("tied").data_ptr());
}

}  // namespace
}  // namespace transformers
