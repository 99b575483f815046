#include <gmock/gmock.h>
#include <transformers/utils/files/save_transaction.h>
#include <transformers/utils/io/checkpoint.h>
#include <transformers/utils/io/safetensors.h>

#include <atomic>
#include <set>
#include <thread>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/io/file_builders.h"

namespace transformers {
namespace {

using testing::make_tensors;
using testing::read_file;
using testing::TemporaryFolder;
using testing::write_file;

class SaveCheckpointTest : public ::testing::Test {
 protected:
  std::set<std::string> files() const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
      names.insert(entry.path().filename().string());
    }
    return names;
  }

  /// Tensor names of a written file.
  std::set<std::string> names_in(const std::string& file) const {
    std::set<std::string> names;
    const SafetensorsFile opened(folder_ / file);
    for (const auto& info : opened.tensors()) {
      names.insert(info.name);
    }
    return names;
  }

  void save(const testing::Tensors& state, int64_t max_shard_size) {
    save_checkpoint(path(), state, {.max_shard_size = max_shard_size});
  }

  std::string path() const { return folder_.path().string(); }

  TemporaryFolder folder_;
};

using Names = std::set<std::string>;

TEST_F(SaveCheckpointTest, WhatFitsIsOneFileWithoutIndex) {
  save(make_tensors({{"b", torch::ones({4})}, {"a", torch::zeros({4})}}), 32);
  EXPECT_EQ(files(), Names{"model.safetensors"});
  EXPECT_EQ(SafetensorsFile(folder_ / "model.safetensors").metadata(),
            (std::map<std::string, std::string>{{"format", "pt"}}));
}

TEST_F(SaveCheckpointTest, FillsShardsInTheOrderOfTheStateAndGivesALargeTensorItsOwn) {
  // 16 bytes each but for the large one; at most 32 a shard. The large tensor does not end the shard that is being
  // filled.
  save(make_tensors({{"a", torch::ones({4})},
                     {"large", torch::ones({9})},
                     {"b", torch::ones({4})},
                     {"c", torch::ones({4})},
                     {"d", torch::ones({4}, torch::kInt)}}),
       32);
  EXPECT_EQ(files(), (Names{"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                            "model-00003-of-00003.safetensors", "model.safetensors.index.json"}));
  EXPECT_EQ(names_in("model-00001-of-00003.safetensors"), Names{"large"});
  EXPECT_EQ(names_in("model-00002-of-00003.safetensors"), (Names{"a", "b"}));
  EXPECT_EQ(names_in("model-00003-of-00003.safetensors"), (Names{"c", "d"}));
  EXPECT_EQ(read_file(folder_ / "model.safetensors.index.json"), R"({
  "metadata": {
    "total_parameters": 25,
    "total_size": 100
  },
  "weight_map": {
    "a": "model-00002-of-00003.safetensors",
    "b": "model-00002-of-00003.safetensors",
    "c": "model-00003-of-00003.safetensors",
    "d": "model-00003-of-00003.safetensors",
    "large": "model-00001-of-00003.safetensors"
  }
}
)");
  EXPECT_EQ(Checkpoint(path()).tensors().size(), 5);
}

TEST_F(SaveCheckpointTest, TiedNamesAreStoredOnceAndViewsOfAStorageTogether) {
  const auto tied = torch::ones({4});
  const auto halves = torch::arange(8, torch::kFloat);
  save(make_tensors({{"embed", tied},
                     {"left", halves.slice(0, 0, 4)},
                     {"middle", torch::ones({4})},
                     {"head", tied},
                     {"right", halves.slice(0, 4, 8)}}),
       32);
  EXPECT_EQ(names_in("model-00001-of-00003.safetensors"), Names{"embed"});
  EXPECT_EQ(names_in("model-00002-of-00003.safetensors"), (Names{"left", "right"}));
  EXPECT_EQ(names_in("model-00003-of-00003.safetensors"), Names{"middle"});
  EXPECT_THAT(read_file(folder_ / "model.safetensors.index.json"), ::testing::HasSubstr("\"total_size\": 64"));
  EXPECT_TENSORS_EQUAL(Checkpoint(path()).tensor("right"), torch::tensor({4.0F, 5.0F, 6.0F, 7.0F}));
}

TEST_F(SaveCheckpointTest, AConjugateIsNotTakenForTied) {
  const auto plain = torch::complex(torch::tensor({1.0F}), torch::tensor({2.0F}));
  save(make_tensors({{"plain", plain}, {"conjugate", plain.conj()}}), 32);
  EXPECT_EQ(torch::imag(Checkpoint(path()).tensor("conjugate")).item<float>(), -2.0F);
}

TEST_F(SaveCheckpointTest, EmptyTensorsAreNotTakenForTied) {
  save(make_tensors({{"a", torch::empty({0})}, {"b", torch::empty({0})}}), 32);
  EXPECT_EQ(names_in("model.safetensors"), (Names{"a", "b"}));
}

TEST_F(SaveCheckpointTest, AnEmptyStateIsAnEmptyFile) {
  save(make_tensors({}), 32);
  EXPECT_EQ(Checkpoint(path()).tensors().size(), 0);
}

TEST_F(SaveCheckpointTest, RemovesTheWeightFilesOfAnEarlierSaveAndNothingElse) {
  const auto state = make_tensors({{"a", torch::ones({4})}, {"b", torch::ones({4})}, {"c", torch::ones({4})}});
  const Names others{"config.json", "pytorch_model.bin", "model-1-of-2.safetensors"};
  for (const auto& name : others) {
    write_file(folder_ / name, "other");
  }
  const auto expected = [&](Names names) {
    names.insert(others.begin(), others.end());
    return names;
  };
  save(state, 16);
  save(state, 32);
  EXPECT_EQ(files(), expected({"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                               "model.safetensors.index.json"}));
  save(state, 1000);
  EXPECT_EQ(files(), expected({"model.safetensors"}));
  save(state, 32);
  EXPECT_EQ(files(), expected({"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                               "model.safetensors.index.json"}));
}

TEST_F(SaveCheckpointTest, SavesOverTheFolderTheTensorsAreMappedFrom) {
  const auto state = make_tensors({{"a", torch::randn({4})}, {"b", torch::randn({4})}});
  save(state, 16);
  const auto before = read_file(folder_ / "model-00001-of-00002.safetensors");
  const Checkpoint checkpoint(path());
  save(make_tensors({{"a", checkpoint.tensor("a")}, {"b", checkpoint.tensor("b")}}), 16);
  EXPECT_EQ(read_file(folder_ / "model-00001-of-00002.safetensors"), before);
  EXPECT_TENSORS_EQUAL(Checkpoint(path()).tensor("b"), state["b"]);
}

TEST_F(SaveCheckpointTest, SavesOverAnIndexWhoseShardsAreGone) {
  const auto state = make_tensors({{"a", torch::randn({4})}, {"b", torch::randn({4})}});
  save(state, 16);
  std::filesystem::remove(folder_ / "model-00002-of-00002.safetensors");
  save(state, 16);
  EXPECT_TENSORS_EQUAL(Checkpoint(path()).tensor("b"), state["b"]);
  write_file(folder_ / "model.safetensors.index.json", "damaged");
  save(state, 16);
  EXPECT_TENSORS_EQUAL(Checkpoint(path()).tensor("b"), state["b"]);
}

TEST_F(SaveCheckpointTest, ReplacesALinkAndLeavesItsTargetAlone) {
  const TemporaryFolder blobs;
  write_file(blobs / "blob", "shared with other folders");
  std::filesystem::create_symlink(blobs / "blob", folder_ / "model.safetensors");
  save(make_tensors({{"a", torch::ones({1})}}), 32);
  EXPECT_EQ(read_file(blobs / "blob"), "shared with other folders");
  EXPECT_FALSE(std::filesystem::is_symlink(folder_ / "model.safetensors"));
}

TEST_F(SaveCheckpointTest, RefusesAShardSizeOfNothing) {
  EXPECT_ERROR(save(make_tensors({}), 0), "max_shard_size must be positive, found 0");
}

TEST_F(SaveCheckpointTest, IsPartOfALargerSave) {
  {
    SaveTransaction transaction(path());
    add_checkpoint(transaction, make_tensors({{"a", torch::ones({1})}}));
    transaction.write("config.json", "{}");
    EXPECT_ERROR(Checkpoint{path()}, "holds no weights");
  }
  EXPECT_EQ(files(), Names{});
  SaveTransaction transaction(path());
  add_checkpoint(transaction, make_tensors({{"a", torch::ones({1})}}));
  transaction.write("config.json", "{}");
  transaction.commit();
  EXPECT_EQ(files(), (Names{"config.json", "model.safetensors"}));
}

TEST_F(SaveCheckpointTest, AReaderNeverSeesAMixtureOfTwoSaves) {
  const auto state = [](float value) {
    return make_tensors(
        {{"a", torch::full({4}, value)}, {"b", torch::full({4}, value)}, {"c", torch::full({4}, value)}});
  };
  save(state(0), 32);
  std::atomic<bool> done{false};
  std::thread writer([&] {
    for (int round = 1; round <= 60; ++round) {
      save(state(static_cast<float>(round)), round % 3 == 0 ? 1000 : 32);
    }
    done = true;
  });
  while (!done) {
    const Checkpoint checkpoint(path());
    const auto value = checkpoint.tensor("a")[0].item<float>();
    EXPECT_EQ(checkpoint.tensor("b")[0].item<float>(), value);
    EXPECT_EQ(checkpoint.tensor("c")[0].item<float>(), value);
  }
  writer.join();
}

TEST(ParseSizeTest, KnowsDecimalAndBinaryUnits) {
  EXPECT_EQ(parse_size("5GB"), 5'000'000'000);
  EXPECT_EQ(parse_size("500MB"), 500'000'000);
  EXPECT_EQ(parse_size("2GiB"), 2'147'483'648);
  EXPECT_EQ(parse_size("1.5 kB"), 1500);
  EXPECT_EQ(parse_size("10kib"), 10'240);
  EXPECT_EQ(parse_size("7"), 7);
  EXPECT_EQ(parse_size("7B"), 7);
  EXPECT_EQ(parse_size("1TB"), 1'000'000'000'000);
}

TEST(ParseSizeTest, RefusesWhatIsNoSize) {
  for (const auto* text : {"", "GB", "5XB", "-5GB", "1e3", "inf", "nan", "5.5.5GB", "5 5GB", ".", "0x5"}) {
    EXPECT_ERROR(parse_size(text), "expected a size such as 5GB");
  }
  EXPECT_ERROR(parse_size("99999999TB"), "is too large");
  EXPECT_ERROR(parse_size(std::string(400, '9')), "99");
}

}  // namespace
}  // namespace transformers
