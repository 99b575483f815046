// The model that all stages hold together, on one rank: its state dict and its folder.
#include <ATen/ATen.h>
#include <transformers/utils/distributed/together.h>
#include <transformers/utils/pipeline/pipeline_stage.h>

#include <map>

namespace transformers {
namespace {

/// The first stage that holds each parameter, by the model's names.
std::map<std::string, int64_t> owners(const PipelineStage& stage) {
  std::map<std::string, int64_t> owners;
  for (int64_t i = stage.num_stages() - 1; i >= 0; --i) {
    const auto map = stage_device_map(stage.model(), i, stage.num_stages(), c10::kCPU);
    for (const auto& parameter : stage.model().named_parameters()) {
      if (!place_of(map, parameter.key()).is_meta()) {
        owners[parameter.key()] = i;
      }
    }
  }
  return owners;
}

/// On the CPU of rank `dst`; undefined on the others.
at::Tensor gathered(const at::Tensor& parameter, const ProcessGroup& group, int64_t owner, int64_t dst) {
  if (group.rank() == owner && owner == dst) {
    return parameter.detach().to(at::kCPU);
  }
  if (group.rank() == owner) {
    group.send(parameter.detach().to(group.device()).contiguous(), dst).wait();
  }
  if (group.rank() != dst) {
    return {};
  }
  const auto received =
      at::empty(parameter.sizes(), at::TensorOptions().dtype(parameter.scalar_type()).device(group.device()));
  group.recv(received, owner).wait();
  return received.to(at::kCPU);
}

/// During its lifetime, the parameters of other stages have values.
class BorrowedValues {
 public:
  BorrowedValues(const CausalLM& model, const StateDict& state) {
    for (const auto& parameter : model.named_parameters()) {
      if (parameter->is_meta()) {
        borrowed_.push_back(parameter.value());
        assign_tensor(borrowed_.back(), state[parameter.key()]);
      }
    }
  }
  ~BorrowedValues() {
    for (auto& parameter : borrowed_) {
      assign_tensor(parameter, at::empty_like(parameter, at::kMeta));
    }
  }
  BorrowedValues(const BorrowedValues&) = delete;
  BorrowedValues& operator=(const BorrowedValues&) = delete;

 private:
  std::vector<at::Tensor> borrowed_;
};

}  // namespace

StateDict gather_state_dict(const PipelineStage& stage, int64_t dst) {
  const auto& group = stage.group();
  TORCH_CHECK(dst >= 0 && dst < group.size(), "gather_state_dict: dst must be in [0, ", group.size(), "), got ", dst);
  const auto owner_of = owners(stage);
  StateDict state;
  std::map<const void*, at::Tensor> done;  // tied names are one tensor in the result too
  for (const auto& parameter : stage.model().named_parameters()) {
    const auto [known, is_new] = done.try_emplace(parameter->unsafeGetTensorImpl());
    if (is_new) {
      known->second = gathered(parameter.value(), group, owner_of.at(parameter.key()), dst);
    }
    if (group.rank() == dst) {
      state.insert(parameter.key(), known->second);
    }
  }
  return state;
}

void save_pretrained(const PipelineStage& stage, const std::string& folder, const SaveOptions& options) {
  const auto state = gather_state_dict(stage);
  together(stage.group(), [&] {
    if (stage.is_first()) {
      const BorrowedValues values(stage.model(), state);
      stage.model().save_pretrained(folder, options);
    }
  });
}

}  // namespace transformers
