#include <torch/torch.h>
#include <transformers/utils/distributed/storage.h>

#include "support/tensor_assertions.h"

namespace transformers {
namespace {

TEST(FreeStorageTest, GivesMemoryBackUnderATensorThatStays) {
  const auto tensor = torch::ones({4, 3});
  const auto view = tensor.view({12});
  EXPECT_TRUE(free_storage(tensor));
  EXPECT_FALSE(data_ptr_allocated(tensor));
  EXPECT_FALSE(data_ptr_allocated(view));
  EXPECT_EQ(tensor.sizes(), (std::vector<int64_t>{4, 3}));
  EXPECT_FALSE(free_storage(tensor));
}

TEST(FreeStorageTest, RefusesATensorInsideItsStorage) {
  const auto tensor = torch::ones({4, 3});
  EXPECT_ERROR(free_storage(tensor[1]), "storage offset 3", "48 bytes", "[3]");
  EXPECT_TRUE(data_ptr_allocated(tensor));
}

TEST(AllocStorageTest, BringsTheMemoryBack) {
  const auto tensor = torch::ones({4, 3}, at::kBFloat16);
  free_storage(tensor);
  EXPECT_TRUE(alloc_storage(tensor, {4, 3}));
  EXPECT_FALSE(alloc_storage(tensor, {4, 3}));
  EXPECT_EQ(tensor.storage().nbytes(), 24u);
  tensor.fill_(2);
  EXPECT_EQ(tensor.sum().item<float>(), 24);
}

TEST(AllocStorageTest, TakesMoreThanTheTensorNeedsAndNotLess) {
  const auto tensor = torch::ones({4});
  free_storage(tensor);
  EXPECT_ERROR(alloc_storage(tensor, {3}), "[3]", "too small", "[4]");
  EXPECT_FALSE(data_ptr_allocated(tensor));
  EXPECT_TRUE(alloc_storage(tensor, {2, 4}));
  EXPECT_ERROR(alloc_storage(tensor, {4}), "must be empty", "32 bytes");
}

TEST(AllocStorageTest, RefusesSizesThatAreNone) {
  const auto tensor = torch::ones({4});
  free_storage(tensor);
  EXPECT_ERROR(alloc_storage(tensor, {-1}), "negative");
  EXPECT_ERROR(alloc_storage(tensor, {int64_t{1} << 40, int64_t{1} << 40}), "too large");
}

TEST(AllocStorageTest, RefusesForeignMemory) {
  std::vector<float> memory(4);
  const auto tensor = torch::from_blob(memory.data(), {4});
  EXPECT_ERROR(free_storage(tensor), "belongs to someone else");
  EXPECT_ERROR(alloc_storage(at::Tensor(), {1}), "no storage");
}

TEST(AllocStorageTest, KeepsAParametersPlaceInAutograd) {
  const auto parameter = torch::ones({3}, torch::requires_grad());
  free_storage(parameter);
  alloc_storage(parameter, {3});
  {
    const torch::NoGradGuard no_grad;
    parameter.fill_(2);
  }
  (parameter * parameter).sum().backward();
  EXPECT_TENSORS_EQUAL(parameter.grad(), torch::full({3}, 4.0));
}

TEST(SameStorageTest, KnowsViewsFromCopies) {
  const auto tensor = torch::ones({4});
  EXPECT_TRUE(same_storage(tensor, tensor.slice(0, 2)));
  EXPECT_TRUE(same_storage(tensor, tensor.detach()));
  EXPECT_FALSE(same_storage(tensor, tensor.clone()));
  EXPECT_EQ(storage_data_ptr(tensor), storage_data_ptr(tensor.slice(0, 2)));
}

TEST(SameStorageTest, TellsEmptyStoragesApart) {
  const auto first = torch::ones({4});
  const auto second = torch::ones({4});
  free_storage(first);
  free_storage(second);
  EXPECT_FALSE(same_storage(first, second));
  EXPECT_TRUE(same_storage(first, first.view({2, 2})));
  EXPECT_EQ(storage_data_ptr(first), 0u);
}

TEST(DataPtrAllocatedTest, IsFalseOnTheMetaDevice) { EXPECT_FALSE(data_ptr_allocated(torch::empty({4}, at::kMeta))); }

}  // namespace
}  // namespace transformers
