#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

namespace transformers {

/// Copies a tensor to an accelerator on that device's background stream. Work that is submitted to the current stream
/// afterwards waits for the copy.
at::Tensor copied_on_side_stream(const at::Tensor& tensor, c10::Device device);

}  // namespace transformers
