#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

namespace transformers {

/// A copy of a tensor on an accelerator, made on that device's background stream. Work that the current stream gets
/// afterwards sees the copy.
at::Tensor copied_on_side_stream(const at::Tensor& tensor, c10::Device device);

}  // namespace transformers
