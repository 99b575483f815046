#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>  // ordered_dict.h needs it and does not include it
#include <torch/ordered_dict.h>
#include <transformers/utils/files/save_transaction.h>

#include <map>
#include <string>

namespace transformers {

/// Writes the bytes of a safetensors file to `sink`, in order.
void write_safetensors(const ByteSink& sink, const torch::OrderedDict<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace transformers
