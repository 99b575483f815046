#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <sys/stat.h>
#include <transformers/utils/io/safetensors.h>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/io/file_builders.h"

namespace transformers {
namespace {

using testing::make_tensors;
using testing::read_file;
using testing::TemporaryFolder;
using testing::write_file;

class SaveSafetensorsTest : public ::testing::Test {
 protected:
  TemporaryFolder folder_;
  std::string path_ = folder_ / "out.safetensors";
};

TEST_F(SaveSafetensorsTest, OrdersByDtypeThenNameAndPadsTheHeader) {
  save_safetensors(path_, make_tensors({{"z", torch::tensor({1, 2}, torch::kByte)},
                                        {"b", torch::tensor({1.0F})},
                                        {"a", torch::tensor(2.0F)},
                                        {"h", torch::tensor({3}, torch::kLong)}}));
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"h":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
      R"("a":{"dtype":"F32","shape":[],"data_offsets":[8,12]},"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]},)"
      R"("z":{"dtype":"U8","shape":[2],"data_offsets":[16,18]}})";
  const auto padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  const auto data =
      testing::little_endian<int64_t>(3) + testing::little_endian(2.0F) + testing::little_endian(1.0F) + "\1\2";
  EXPECT_EQ(read_file(path_), testing::safetensors_bytes(padded, data));
}

TEST_F(SaveSafetensorsTest, NoTensorsAndNoMetadataAreAnEmptyObject) {
  save_safetensors(path_, make_tensors({}), {});
  EXPECT_EQ(read_file(path_), testing::safetensors_bytes("{}      "));
}

TEST_F(SaveSafetensorsTest, WritesTheElementsOfStridedAndConjugatedTensors) {
  const auto matrix = torch::arange(6, torch::kFloat).view({2, 3});
  const auto complex = torch::complex(torch::tensor({1.0F}), torch::tensor({2.0F}));
  save_safetensors(path_, make_tensors({{"t", matrix.t()},
                                        {"column", matrix.select(1, 1)},
                                        {"expanded", torch::ones({1}).expand({3})},
                                        {"conj", complex.conj()},
                                        {"neg", torch::imag(complex.conj())},
                                        {"grad", torch::ones({2}).requires_grad_()}}));
  const SafetensorsFile file(path_);
  EXPECT_TENSORS_EQUAL(file.tensor("t"), matrix.t().contiguous());
  EXPECT_TENSORS_EQUAL(file.tensor("column"), torch::tensor({1.0F, 4.0F}));
  EXPECT_TENSORS_EQUAL(file.tensor("expanded"), torch::ones({3}));
  EXPECT_EQ(torch::imag(file.tensor("conj")).item<float>(), -2.0F);
  EXPECT_EQ(file.tensor("neg").item<float>(), -2.0F);
  EXPECT_TENSORS_EQUAL(file.tensor("grad"), torch::ones({2}));
}

TEST_F(SaveSafetensorsTest, LoadingAndSavingAgainGivesTheSameBytes) {
  save_safetensors(path_,
                   make_tensors({{"a.\n\"\\größe", torch::randn({3, 2})}, {"", torch::zeros({0, 2}, torch::kHalf)}}),
                   {{"format", "pt"}, {"note", "\x7f\u00e9"}});
  const auto before = read_file(path_);
  const SafetensorsFile file(path_);
  testing::Tensors tensors;
  for (const auto& info : file.tensors()) {
    tensors.insert(info.name, file.tensor(info.name));
  }
  save_safetensors(path_, tensors, file.metadata());  // over the file the tensors are mapped from
  EXPECT_EQ(read_file(path_), before);
  EXPECT_TENSORS_EQUAL(tensors["a.\n\"\\größe"], SafetensorsFile(path_).tensor("a.\n\"\\größe"));
}

TEST_F(SaveSafetensorsTest, RefusesWhatTheFormatCannotHold) {
  const auto one = torch::ones({1});
  EXPECT_ERROR(save_safetensors(path_, make_tensors({{"__metadata__", one}})), "__metadata__ cannot be the name");
  EXPECT_ERROR(save_safetensors(path_, make_tensors({{"\xff", one}})), "\\xff cannot be the name");
  EXPECT_ERROR(save_safetensors(path_, make_tensors({{"a", torch::Tensor()}})), "tensor a is undefined");
  EXPECT_ERROR(save_safetensors(path_, make_tensors({{"a", torch::ones({1}, torch::kMeta)}})), "tensor a", "meta");
  EXPECT_ERROR(save_safetensors(path_, make_tensors({{"a", torch::ones({1}).to_sparse()}})), "tensor a", "Sparse");
  EXPECT_ERROR(save_safetensors(path_, make_tensors({{"a", torch::ones({1}, torch::kComplexDouble)}})),
               "no dtype ComplexDouble");
  EXPECT_ERROR(save_safetensors(path_, make_tensors({{"a", one}}), {{"k", "\xff"}}), "metadata k is not UTF-8");
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(SaveSafetensorsTest, RefusesAMissingFolderAndKeepsWhatWasThere) {
  EXPECT_ERROR(save_safetensors(folder_ / "none/out.safetensors", make_tensors({})),
               "out.safetensors: cannot be created");
  write_file(path_, "precious");
  EXPECT_ERROR(save_safetensors(path_, make_tensors({{"a", torch::Tensor()}})), "undefined");
  EXPECT_EQ(read_file(path_), "precious");
}

TEST_F(SaveSafetensorsTest, ModesFollowTheUmask) {
  const auto before = ::umask(027);
  save_safetensors(path_, make_tensors({}));
  ::umask(before);
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640);
}

/// Follows the memory of tensors made on this thread.
struct TensorMemory : c10::MemoryReportingInfoBase {
  void reportMemoryUsage(void* /*pointer*/, int64_t size, size_t /*total*/, size_t /*reserved*/,
                         c10::Device /*device*/) override {
    held += size;
    peak = std::max(peak, held);
  }
  bool memoryProfilingEnabled() const override { return true; }

  int64_t held = 0, peak = 0;
};

TEST_F(SaveSafetensorsTest, CopiesAtMostOneTensorAtATime) {
  testing::Tensors tensors;
  for (int i = 1; i <= 8; ++i) {
    tensors.insert(std::to_string(i), torch::zeros({i * 1000, 4}).slice(/*dim=*/1, 0, 2));
  }
  const auto memory = std::make_shared<TensorMemory>();
  {
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, memory);
    save_safetensors(path_, tensors);
  }
  EXPECT_EQ(memory->peak, 8 * 1000 * 2 * 4);
  EXPECT_EQ(memory->held, 0);
}

}  // namespace
}  // namespace transformers
