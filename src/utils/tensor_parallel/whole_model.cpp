#include <ATen/ATen.h>
#include <transformers/utils/distributed/together.h>
#include <transformers/utils/io/checkpoint.h>
#include <transformers/utils/tensor_parallel/tensor_parallel.h>

#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "utils/files/internal/json_file.h"

namespace transformers {
namespace {

/// Undefined on all ranks but `dst`.
at::Tensor gathered(const at::Tensor& slice, const ParameterSlices& slices, const ProcessGroup& group, int64_t dst) {
  if (group.rank() != dst) {
    group.send(slice.contiguous(), static_cast<int>(dst)).wait();
    return {};
  }
  auto sizes = slice.sizes().vec();
  sizes[static_cast<size_t>(slices.dim)] = slices.full;
  auto whole = at::empty(sizes, slice.options().device(at::kCPU));
  for (int64_t rank = 0; rank < group.size(); ++rank) {
    const auto& part = slices.parts[static_cast<size_t>(rank)];
    auto target = whole.narrow(slices.dim, part.start, part.length);
    if (rank == dst) {
      target.copy_(slice);
    } else {
      const auto received = at::empty(target.sizes(), slice.options());
      group.recv(received, rank).wait();
      target.copy_(received);
    }
  }
  return whole;
}

/// Of the floating tensors, when they have one dtype: casting to it casts nothing.
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

/// What the folder's config.json says, if anything.
std::optional<c10::ScalarType> configured_dtype(const std::string& folder) {
  const auto config = read_json_file(config_path(folder));
  for (const char* key : {"dtype", "torch_dtype"}) {
    if (const auto found = config.find(key); found != config.end() && found->is_string()) {
      return dtype_from_name(found->get<std::string>());
    }
  }
  return std::nullopt;
}

void write_whole(const PreTrainedModel& model, const StateDict& state, const std::string& folder,
                 const SaveOptions& options) {
  const auto whole = std::dynamic_pointer_cast<PreTrainedModel>(model.clone(at::Device(at::kCPU)));
  for (auto& parameter : whole->named_parameters()) {
    assign_tensor(parameter.value(), state[parameter.key()]);
  }
  whole->save_pretrained(folder, options);
}

}  // namespace

StateDict gather_state_dict(const PreTrainedModel& model, const TensorParallel& parallel, int64_t dst) {
  const auto& group = parallel.group;
  TORCH_CHECK(dst >= 0 && dst < group.size(), "gather_state_dict: dst must be in [0, ", group.size(), "), got ", dst);
  StateDict state;
  std::map<const void*, at::Tensor> done;  // tied names are one tensor in the result too
  for (const auto& entry : state_dict(model)) {
    auto [known, is_new] = done.try_emplace(entry.value().const_data_ptr());
    if (is_new) {
      const auto slices = parallel.slices.find(entry.key());
      known->second = slices != parallel.slices.end() ? gathered(entry.value(), slices->second, group, dst)
                      : group.rank() == dst           ? entry.value().to(at::kCPU)
                                                      : at::Tensor();
    }
    if (group.rank() == dst) {
      state.insert(entry.key(), known->second);
    }
  }
  return state;
}

void save_pretrained(const PreTrainedModel& model, const TensorParallel& parallel, const std::string& folder,
                     const SaveOptions& options) {
  const auto state = gather_state_dict(model, parallel);
  together(parallel.group, [&] {
    if (parallel.group.rank() == 0) {
      write_whole(model, state, folder, options);
    }
  });
}

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
