#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>
#include <transformers/export.h>

#include <cstdint>

namespace TRANSFORMERS_API transformers {

// The storage half of torch/distributed/utils.py, torch 2.11: they allocate and free the memory of a tensor without
// changing its shape, strides and place in the autograd graph.

/// Allocates memory for `size` elements of the tensor's dtype in its storage, uninitialised. Returns false when the
/// storage had that size already. Throws when the storage has any other size than 0, when `size` is too small for the
/// tensor's own shape, and when the storage cannot be resized. Mirrors `_alloc_storage`.
bool alloc_storage(const at::Tensor& tensor, c10::IntArrayRef size);

/// Frees the memory of the tensor's storage. Returns false when the storage was empty already. Throws when the tensor
/// does not begin at the start of its storage, as other tensors then share it. Mirrors `_free_storage`.
bool free_storage(const at::Tensor& tensor);

/// Whether both tensors share one storage, at any offset. Empty storages are the same only if they are one object.
/// Mirrors `_same_storage` of fsdp/_flat_param.py.
bool same_storage(const at::Tensor& first, const at::Tensor& second);

/// The address of the storage as a number; 0 when it holds no memory. Mirrors `_storage_data_ptr`.
uintptr_t storage_data_ptr(const at::Tensor& tensor);

/// Whether the tensor's storage holds memory. Mirrors `_data_ptr_allocated`.
bool data_ptr_allocated(const at::Tensor& tensor);

}  // namespace transformers
