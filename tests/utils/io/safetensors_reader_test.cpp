#include <fcntl.h>
#include <sys/mman.h>
#include <transformers/utils/files/mapped_memory.h>
#include <transformers/utils/io/safetensors.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "support/mapped_memory.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/io/file_builders.h"

namespace transformers {
namespace {

using testing::entry;
using testing::little_endian;
using testing::mapped_memory;
using testing::read_file;
using testing::safetensors_bytes;
using testing::TemporaryFolder;
using testing::write_file;

class SafetensorsFileTest : public ::testing::Test {
 protected:
  /// The data begins at a multiple of 64.
  SafetensorsFile open(const std::string& header, const std::string& data = "") {
    write_file(path_, safetensors_bytes(header + std::string((120 - header.size() % 64) % 64, ' '), data));
    return SafetensorsFile(path_);
  }

  TemporaryFolder folder_;
  std::string path_ = folder_ / "file.safetensors";
};

std::string floats(std::initializer_list<float> values) {
  std::string bytes;
  for (const auto value : values) {
    bytes += little_endian(value);
  }
  return bytes;
}

TEST_F(SafetensorsFileTest, ReadsNamesInTheOrderOfTheData) {
  const auto file = open("{" + entry("second", "F32", "[2,1]", "[4,12]") + "," + entry("first", "I32", "[]", "[0,4]") +
                             R"(,"__metadata__":{"format":"pt","note":"x"}})",
                         little_endian<int32_t>(7) + floats({1.5, -2}));
  ASSERT_EQ(file.tensors().size(), 2);
  EXPECT_EQ(file.tensors()[0].name, "first");
  EXPECT_EQ(file.tensors()[1].name, "second");
  EXPECT_EQ(file.tensors()[1].shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(file.tensors()[1].dtype, torch::kFloat);
  EXPECT_EQ(file.tensors()[1].bytes, 8);
  EXPECT_EQ(file.bytes(), 12);
  EXPECT_EQ(file.path(), path_);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"note", "x"}}));
  EXPECT_TENSORS_EQUAL(file.tensor("first"), torch::tensor(7, torch::kInt));
  EXPECT_TENSORS_EQUAL(file.tensor("second"), torch::tensor({1.5F, -2.0F}).view({2, 1}));
  EXPECT_TRUE(file.contains("first"));
  EXPECT_FALSE(file.contains("third"));
  EXPECT_ERROR(file.tensor("third\n"), "file.safetensors: holds no tensor third\\x0a");
}

TEST_F(SafetensorsFileTest, AcceptsWhatTheFormatAllows) {
  EXPECT_EQ(open("{}").tensors().size(), 0);
  EXPECT_EQ(open(" \t\r\n{}  \n ").tensors().size(), 0);
  EXPECT_EQ(open(R"({"__metadata__":null})").metadata().size(), 0);
  EXPECT_EQ(open(R"({"__metadata__":{"a":"1","a":"2"}})").metadata().at("a"), "2");
  EXPECT_EQ(
      open(R"({"a":{"dtype":"U8","extra":{"x":[[],{"dtype":1}]},"shape":[1],"data_offsets":[0,1],"extra":2}})", "x")
          .tensors()
          .size(),
      1);
  EXPECT_EQ(open("{" + entry("", "U8", "[1]", "[0,1]") + "}", "x").tensor("").numel(), 1);
  const std::string odd = "größe/模型.0.\\u0000.weight";
  EXPECT_TRUE(open("{" + entry(odd, "U8", "[0]", "[0,0]") + "}").contains(std::string("größe/模型.0.\0.weight", 25)));
}

TEST_F(SafetensorsFileTest, AcceptsEmptyTensorsAnywhere) {
  const auto file = open("{" + entry("end", "F32", "[0]", "[8,8]") + "," + entry("data", "F32", "[2]", "[0,8]") + "," +
                             entry("start", "I64", "[3,0]", "[0,0]") + "," +
                             entry("middle", "F32", "[0,1152921504606846976]", "[8,8]") + "}",
                         floats({1, 2}));
  EXPECT_EQ(file.tensors()[0].name, "start");
  EXPECT_EQ(file.tensors()[1].name, "data");
  EXPECT_EQ(file.tensor("start").sizes(), (std::vector<int64_t>{3, 0}));
  EXPECT_EQ(file.tensor("end").numel(), 0);
  EXPECT_TENSORS_EQUAL(file.tensor("data"), torch::tensor({1.0F, 2.0F}));
}

TEST_F(SafetensorsFileTest, ReadsEveryDtype) {
  const std::vector<std::pair<std::string, torch::ScalarType>> dtypes{
      {"BOOL", torch::kBool},
      {"U8", torch::kByte},
      {"I8", torch::kChar},
      {"F8_E4M3", torch::kFloat8_e4m3fn},
      {"F8_E5M2", torch::kFloat8_e5m2},
      {"F8_E4M3FNUZ", torch::kFloat8_e4m3fnuz},
      {"F8_E5M2FNUZ", torch::kFloat8_e5m2fnuz},
      {"F8_E8M0", torch::kFloat8_e8m0fnu},
      {"I16", torch::kShort},
      {"U16", torch::kUInt16},
      {"F16", torch::kHalf},
      {"BF16", torch::kBFloat16},
      {"I32", torch::kInt},
      {"U32", torch::kUInt32},
      {"F32", torch::kFloat},
      {"I64", torch::kLong},
      {"U64", torch::kUInt64},
      {"F64", torch::kDouble},
      {"C64", torch::kComplexFloat},
  };
  for (const auto& [name, dtype] : dtypes) {
    const auto size = std::to_string(c10::elementSize(dtype));
    const auto file =
        open("{" + entry("a", name, "[1]", "[0," + size + "]") + "}", std::string(c10::elementSize(dtype), '\1'));
    EXPECT_EQ(file.tensor("a").scalar_type(), dtype) << name;
    EXPECT_EQ(*static_cast<const char*>(file.tensor("a").data_ptr()), 1) << name;
  }
}

TEST_F(SafetensorsFileTest, TheFileOfAnAddressIsKnownWhileItIsMapped) {
  const auto text = "{" + entry("a", "F32", "[2]", "[0,8]") + "}";
  const auto* path = folder_.path().c_str();
  const void* address = nullptr;
  {
    const auto first = open(text, floats({1, 2})).tensor("a");
    path_ = folder_ / "other\x1b.safetensors";
    const auto second = open(text, floats({3, 4})).tensor("a");
    address = first.const_data_ptr();
    EXPECT_EQ(mapped_file_at(address), folder_ / "file.safetensors");
    EXPECT_EQ(mapped_file_at(second.const_data_ptr<float>() + 1), folder_ / "other\\x1b.safetensors");
    EXPECT_EQ(mapped_file_at(path), nullptr);
  }
  EXPECT_EQ(mapped_file_at(address), nullptr);
}

TEST_F(SafetensorsFileTest, TensorsAreViewsOfTheFile) {
  const auto file = open("{" + entry("a", "F32", "[2]", "[0,8]") + "}", floats({1, 2}));
  EXPECT_EQ(file.tensor("a").data_ptr(), file.tensor("a").data_ptr());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.tensor("a").data_ptr()) % 64, 0);
  EXPECT_FALSE(file.tensor("a").requires_grad());
  EXPECT_TRUE(file.tensor("a").is_contiguous());
}

TEST_F(SafetensorsFileTest, CopiesATensorThatIsNotAligned) {
  for (size_t padding = 0; padding < 8; ++padding) {
    const auto header = "{" + entry("byte", "U8", "[1]", "[0,1]") + "," + entry("a", "F64", "[1]", "[1,9]") + "}";
    const auto file = open(header + std::string(padding, ' '), "x" + little_endian(1.25));
    const auto tensor = file.tensor("a");
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data_ptr()) % alignof(double), 0);
    EXPECT_TENSORS_EQUAL(tensor, torch::tensor({1.25}, torch::kDouble));
  }
}

TEST_F(SafetensorsFileTest, TensorsOutliveTheFileObjectAndItsName) {
  torch::Tensor tensor;
  { tensor = open("{" + entry("a", "F32", "[2]", "[0,8]") + "}", floats({1, 2})).tensor("a"); }
  std::filesystem::remove(path_);
  EXPECT_TENSORS_EQUAL(tensor, torch::tensor({1.0F, 2.0F}));
}

TEST_F(SafetensorsFileTest, WritingToATensorNeverChangesTheFile) {
  const auto file = open("{" + entry("a", "F32", "[2]", "[0,8]") + "}", floats({1, 2}));
  const auto before = read_file(path_);
  auto weight = file.tensor("a").requires_grad_();
  weight.square().sum().backward();
  {
    const torch::NoGradGuard no_grad;
    weight.sub_(weight.grad());
  }
  EXPECT_TENSORS_EQUAL(weight.detach(), torch::tensor({-1.0F, -2.0F}));
  EXPECT_EQ(read_file(path_), before);
  EXPECT_TENSORS_EQUAL(SafetensorsFile(path_).tensor("a"), torch::tensor({1.0F, 2.0F}));
}

TEST_F(SafetensorsFileTest, FollowsLinksAndOddPaths) {
  open("{" + entry("a", "U8", "[1]", "[0,1]") + "}", "x");
  const auto odd = folder_.path() / "ein Ordner 模型";
  std::filesystem::create_directory(odd);
  std::filesystem::create_symlink(path_, odd / "link");
  std::filesystem::create_directory_symlink(odd, folder_.path() / "folder link");
  EXPECT_EQ(SafetensorsFile(folder_ / "folder link/link").tensors().size(), 1);
}

TEST_F(SafetensorsFileTest, HoldsTenThousandTensors) {
  std::string header = "{";
  for (int i = 0; i < 10000; ++i) {
    header += (i == 0 ? "" : ",") + entry("layer." + std::to_string(i), "U8", "[1]",
                                          "[" + std::to_string(i) + "," + std::to_string(i + 1) + "]");
  }
  const auto file = open(header + "}", std::string(10000, '\5'));
  EXPECT_EQ(file.tensors().size(), 10000);
  EXPECT_EQ(file.tensor("layer.9999").item<int>(), 5);
}

TEST_F(SafetensorsFileTest, HoldsMoreThanFourGigabytesAndTwoToTheThirtyOneElements) {
  constexpr int64_t kCount = (1LL << 32) + 5;
  const auto header =
      "{" + entry("a", "U8", "[" + std::to_string(kCount) + "]", "[0," + std::to_string(kCount) + "]") + "," +
      entry("b", "U8", "[1]", "[" + std::to_string(kCount) + "," + std::to_string(kCount + 1) + "]") + "}";
  write_file(path_, safetensors_bytes(header));
  std::filesystem::resize_file(path_, 8 + header.size() + kCount + 1);  // sparse: takes no space on the disk
  const int descriptor = ::open(path_.c_str(), O_WRONLY);
  ASSERT_EQ(::pwrite(descriptor, "\7", 1, static_cast<off_t>(8 + header.size() + kCount)), 1);
  ::close(descriptor);
  const SafetensorsFile file(path_);
  EXPECT_EQ(file.tensor("a").numel(), kCount);
  EXPECT_EQ(file.tensor("a")[kCount - 1].item<int>(), 0);
  EXPECT_EQ(file.tensor("b").item<int>(), 7);
}

TEST_F(SafetensorsFileTest, ThreadsMayReadTogether) {
  const auto file = open("{" + entry("a", "F32", "[2]", "[0,8]") + "}", floats({1, 2}));
  std::vector<std::thread> readers;
  std::atomic<int> right{0};
  for (int i = 0; i < 4; ++i) {
    readers.emplace_back([&] {
      for (int round = 0; round < 100; ++round) {
        right += file.tensor("a").sum().item<float>() == 3.0F ? 1 : 0;
      }
    });
  }
  for (auto& reader : readers) {
    reader.join();
  }
  EXPECT_EQ(right, 400);
}

TEST_F(SafetensorsFileTest, LoadingTakesNoPrivateMemoryAndDroppedPagesGoBack) {
  constexpr int64_t kBytes = 64 << 20, kPage = 4096;
  const auto size = std::to_string(kBytes);
  const auto file = open("{" + entry("a", "U8", "[" + size + "]", "[0," + size + "]") + "}", std::string(kBytes, '\1'));
  EXPECT_LE(mapped_memory(path_, "Rss"), kBytes / 16);  // the header, and what the system maps around it
  const auto tensor = file.tensor("a");
  EXPECT_EQ(tensor.sum().item<int64_t>(), kBytes);
  EXPECT_GE(mapped_memory(path_, "Rss"), kBytes);
  EXPECT_EQ(mapped_memory(path_, "Anonymous"), 0);
  tensor[kBytes / 2] = 2;
  EXPECT_EQ(mapped_memory(path_, "Anonymous"), kPage);
  file.drop_pages("a");
  EXPECT_LE(mapped_memory(path_, "Rss"), 2 * kPage);
  EXPECT_EQ(tensor[kBytes / 2].item<int>(), 1);
}

}  // namespace
}  // namespace transformers
