#pragma once

#include <c10/core/Device.h>
#include <transformers/export.h>

#include <cstdint>

namespace TRANSFORMERS_API transformers {

/// Makes a device usable or throws. The library links LibTorch's CPU half only and starts fast; the first call that
/// asks for CUDA loads the other half, libtorch_cuda.so, from where LibTorch lies. The CPU needs nothing. Throws when
/// that library is missing, when there is no usable CUDA device, or none of the index asked for. `from_pretrained`
/// calls it for the device of its options.
void require_device(c10::Device device);

/// How many CUDA devices this process can use; 0 without CUDA. Loads LibTorch's CUDA half where it is there.
int64_t cuda_device_count();

}  // namespace transformers
