#pragma once

#include <c10/core/Device.h>

namespace transformers {

/// Makes a device usable or throws. The library links LibTorch's CPU half only and starts fast; the first call that
/// asks for CUDA loads the other half.
void require_device(c10::Device device);

}  // namespace transformers
