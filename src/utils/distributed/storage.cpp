#include <ATen/EmptyTensor.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Storage.h>
#include <c10/util/Exception.h>
#include <transformers/utils/distributed/storage.h>

#include <limits>

namespace transformers {
namespace {

c10::StorageImpl& storage_of(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.defined() && tensor.has_storage(), "the tensor has no storage");
  return *tensor.storage().unsafeGetStorageImpl();
}

c10::StorageImpl& resizable_storage_of(const at::Tensor& tensor) {
  auto& storage = storage_of(tensor);
  TORCH_CHECK(storage.resizable() && storage.allocator() != nullptr,
              "the tensor's storage cannot be resized: its memory belongs to someone else");
  return storage;
}

size_t bytes_for(const at::Tensor& tensor, c10::IntArrayRef size) {
  size_t elements = 1;
  for (const auto length : size) {
    TORCH_CHECK(length >= 0, "a size must not be negative, got ", size);
    TORCH_CHECK(!__builtin_mul_overflow(elements, static_cast<size_t>(length), &elements), "the size ", size,
                " is too large");
  }
  size_t bytes = 0;
  TORCH_CHECK(!__builtin_mul_overflow(elements, tensor.element_size(), &bytes) &&
                  bytes <= static_cast<size_t>(std::numeric_limits<int64_t>::max()),
              "the size ", size, " is too large");
  return bytes;
}

}  // namespace

bool alloc_storage(const at::Tensor& tensor, c10::IntArrayRef size) {
  auto& storage = resizable_storage_of(tensor);
  const auto bytes = bytes_for(tensor, size);
  const auto needed = at::detail::computeStorageNbytes(tensor.sizes(), tensor.strides(), tensor.element_size(),
                                                       tensor.storage_offset());
  TORCH_CHECK(bytes >= needed, "storage of size ", size, " is too small for the tensor's shape ", tensor.sizes());
  if (storage.nbytes() == bytes) {
    return false;
  }
  TORCH_CHECK(storage.nbytes() == 0, "the tensor's storage must be empty before it is allocated, got ",
              storage.nbytes(), " bytes");
  const c10::DeviceGuard guard(tensor.device());
  storage.set_data_ptr_noswap(storage.allocator()->allocate(bytes));
  storage.set_nbytes(bytes);
  return true;
}

bool free_storage(const at::Tensor& tensor) {
  auto& storage = resizable_storage_of(tensor);
  if (storage.nbytes() == 0) {
    return false;
  }
  TORCH_CHECK(tensor.storage_offset() == 0,
              "a tensor's storage is freed only where the tensor begins it: others may live there (storage offset ",
              tensor.storage_offset(), ", storage of ", storage.nbytes(), " bytes, shape ", tensor.sizes(), ")");
  const c10::DeviceGuard guard(tensor.device());
  storage.set_data_ptr_noswap(c10::DataPtr(nullptr, tensor.device()));
  storage.set_nbytes(0);
  return true;
}

bool same_storage(const at::Tensor& first, const at::Tensor& second) {
  const auto& one = storage_of(first);
  const auto& other = storage_of(second);
  return &one == &other || (one.data() != nullptr && one.data() == other.data());
}

uintptr_t storage_data_ptr(const at::Tensor& tensor) { return reinterpret_cast<uintptr_t>(storage_of(tensor).data()); }

bool data_ptr_allocated(const at::Tensor& tensor) { return storage_data_ptr(tensor) != 0; }

}  // namespace transformers
