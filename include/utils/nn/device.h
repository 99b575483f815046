#pragma once

#include <c10/core/Device.h>
#include <transformers/export.h>

#include <cstdint>

namespace TRANSFORMERS_API transformers {

/// Makes a device usable or throws. The library links only the CPU part of LibTorch, so that it starts fast; the first
/// call for a CUDA device loads libtorch_cuda.so from LibTorch's folder. For the CPU nothing is done. Throws when that
/// library is missing, when there is no usable CUDA device, and when there is none with the given index.
/// `from_pretrained` calls it for the device of its options.
void require_device(c10::Device device);

/// The number of CUDA devices that this process can use; 0 without CUDA. Loads LibTorch's CUDA part if it is installed.
int64_t cuda_device_count();

}  // namespace transformers
