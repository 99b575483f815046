#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>
#include <transformers/export.h>

#include <cstdint>

namespace TRANSFORMERS_API transformers {

// The storage half of torch/distributed/utils.py, torch 2.11: memory comes and goes under a tensor whose shape, strides
// and place in autograd stay.

/// Gives the tensor's storage room for `size` elements of its dtype, uninitialised. Returns whether it did; false: the
/// storage had that size already. Throws when the storage has another size than 0, when `size` is too small for the
/// tensor's own shape, and when the storage cannot be resized. Mirrors `_alloc_storage`.
bool alloc_storage(const at::Tensor& tensor, c10::IntArrayRef size);

/// Gives the memory back. Returns whether it did; false: the storage was empty already. Throws when the tensor begins
/// inside its storage, as others then live there too. Mirrors `_free_storage`.
bool free_storage(const at::Tensor& tensor);

/// Both lie in one storage, at whatever offset. Empty storages are the same only as one object. Mirrors
/// `_same_storage` of fsdp/_flat_param.py.
bool same_storage(const at::Tensor& first, const at::Tensor& second);

/// Where the storage begins, as a number; 0 when it holds no memory. Mirrors `_storage_data_ptr`.
uintptr_t storage_data_ptr(const at::Tensor& tensor);

/// The tensor's storage holds memory. Mirrors `_data_ptr_allocated`.
bool data_ptr_allocated(const at::Tensor& tensor);

}  // namespace transformers
