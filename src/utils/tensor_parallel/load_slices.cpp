// How `from_pretrained` and `tensor_parallelize` work together, so that a rank reads and converts only its slices.
#include <c10/core/ScalarType.h>
#include <transformers/utils/io/checkpoint.h>
#include <transformers/utils/tensor_parallel/tensor_parallel.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "utils/files/internal/json_file.h"

namespace transformers {
namespace {

/// The dtype of the floating tensors if they all have the same one, so that a cast to it changes nothing.
std::optional<c10::ScalarType> stored_dtype(const Checkpoint& checkpoint) {
  std::optional<c10::ScalarType> dtype;
  for (const auto& tensor : checkpoint.tensors()) {
    if (c10::isFloatingType(tensor.dtype) && tensor.dtype != dtype.value_or(tensor.dtype)) {
      return std::nullopt;
    }
    if (c10::isFloatingType(tensor.dtype)) {
      dtype = tensor.dtype;
    }
  }
  return dtype;
}

/// The config in the folder's config.json, if there is one.
std::optional<c10::ScalarType> configured_dtype(const std::string& folder) {
  const auto config = read_json_file(config_path(folder));
  for (const char* key : {"dtype", "torch_dtype"}) {
    if (const auto found = config.find(key); found != config.end() && found->is_string()) {
      return dtype_from_name(found->get<std::string>());
    }
  }
  return std::nullopt;
}

}  // namespace

namespace detail {

LoadOptions as_stored(const std::string& folder, const LoadOptions& options) {
  auto stored = options;
  if (const auto dtype = stored_dtype(Checkpoint(folder, options.variant))) {
    stored.dtype = dtype;
  }
  stored.device = c10::kCPU;
  return stored;
}

void finish_loading(PreTrainedModel& model, const std::string& folder, const LoadOptions& options) {
  const auto configured = options.dtype ? options.dtype : configured_dtype(folder);
  const auto dtype = configured.value_or(model.dtype());
  model.to(options.device, dtype);
  model.config().dtype = dtype;
}

}  // namespace detail

}  // namespace transformers
