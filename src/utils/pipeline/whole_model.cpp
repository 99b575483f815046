// What concerns all stages together: the norm of their gradients, and the model that they hold.
#include <ATen/ATen.h>
#include <transformers/utils/distributed/together.h>
#include <transformers/utils/pipeline/pipeline_stage.h>

#include <map>

#include "utils/nn/internal/gradient_norm.h"

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
at::Tensor brought(const at::Tensor& parameter, const ProcessGroup& group, int64_t owner, int64_t dst) {
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

/// Lends values to the parameters of other stages.
class Loan {
 public:
  Loan(const CausalLM& model, const StateDict& state) {
    for (const auto& parameter : model.named_parameters()) {
      if (parameter->is_meta()) {
        lent_.push_back(parameter.value());
        assign_tensor(lent_.back(), state[parameter.key()]);
      }
    }
  }
  ~Loan() {
    for (auto& parameter : lent_) {
      assign_tensor(parameter, at::empty_like(parameter, at::kMeta));
    }
  }
  Loan(const Loan&) = delete;
  Loan& operator=(const Loan&) = delete;

 private:
  std::vector<at::Tensor> lent_;
};

}  // namespace

at::Tensor clip_grad_norm_(const PipelineStage& stage, double max_norm) {
  const at::NoGradGuard no_grad;
  auto squares = at::zeros({}, at::TensorOptions().device(stage.group().device()).dtype(at::kFloat));
  std::vector<at::Tensor> gradients;
  for (const auto& parameter : stage.parameters()) {
    const auto& gradient = parameter.grad();
    if (!gradient.defined()) {
      continue;
    }
    gradients.push_back(gradient);
    const auto shared = stage.shared_embeddings();
    if (stage.is_first() || !shared.defined() || !shared.is_same(parameter)) {
      squares += gradient.to(at::kFloat).square().sum().to(squares.device());
    }
  }
  stage.group().all_reduce(squares).wait();
  const auto norm = squares.sqrt();
  clip_grads_with_norm_(gradients, max_norm, norm);
  return norm;
}

StateDict gather_state_dict(const PipelineStage& stage, int64_t dst) {
  const auto& group = stage.group();
  TORCH_CHECK(dst >= 0 && dst < group.size(), "gather_state_dict: dst must be in [0, ", group.size(), "), got ", dst);
  const auto owner_of = owners(stage);
  StateDict state;
  std::map<const void*, at::Tensor> done;  // tied names are one tensor in the result too
  for (const auto& parameter : stage.model().named_parameters()) {
    const auto [known, is_new] = done.try_emplace(parameter->unsafeGetTensorImpl());
    if (is_new) {
      known->second = brought(parameter.value(), group, owner_of.at(parameter.key()), dst);
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
      const Loan loan(stage.model(), state);
      stage.model().save_pretrained(folder, options);
    }
  });
}

}  // namespace transformers
