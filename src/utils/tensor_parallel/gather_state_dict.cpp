// The model that all ranks hold together, on one rank: its state dict and its folder.
#include <ATen/ATen.h>
#include <transformers/utils/distributed/together.h>
#include <transformers/utils/tensor_parallel/tensor_parallel.h>

#include <map>

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

}  // namespace transformers
