#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>
#include <transformers/utils/nn/activation_checkpoint.h>
#include <transformers/utils/nn/autocast.h>

#include <mutex>
#include <utility>
#include <vector>

namespace transformers {
namespace {

using Block = std::function<at::Tensor(const at::Tensor&)>;

/// The states of the default generators that a block on the device may draw from.
std::vector<std::pair<at::Generator, at::Tensor>> generator_states(c10::Device device) {
  std::vector<at::Generator> generators{at::globalContext().defaultGenerator(c10::kCPU)};
  if (!device.is_cpu()) {
    generators.push_back(at::globalContext().defaultGenerator(device));
  }
  std::vector<std::pair<at::Generator, at::Tensor>> states;
  for (auto& generator : generators) {
    const std::lock_guard<std::mutex> lock(generator.mutex());
    states.emplace_back(generator, generator.get_state());
  }
  return states;
}

void restore(const std::vector<std::pair<at::Generator, at::Tensor>>& states) {
  for (auto [generator, state] : states) {
    const std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(state);
  }
}

/// Everything that the second run needs to repeat the first one exactly.
struct Run : torch::CustomClassHolder {
  Run(Block to_run, c10::Device on)
      : block(std::move(to_run)),
        device(on),
        generators(generator_states(on)),
        autocast(at::autocast::is_autocast_enabled(on.type())),
        autocast_dtype(at::autocast::get_autocast_dtype(on.type())) {}

  at::Tensor again(const at::Tensor& input) const {
    const auto now = generator_states(device);
    restore(generators);
    const AutocastGuard guard(device.type(), autocast_dtype, autocast);
    auto output = block(input);
    restore(now);
    return output;
  }

  Block block;
  c10::Device device;
  std::vector<std::pair<at::Generator, at::Tensor>> generators;
  bool autocast;
  c10::ScalarType autocast_dtype;
};

/// `anchor` requires a gradient, so that backward reaches this node even if only parameters inside the block require
/// one.
struct CheckpointFunction : torch::autograd::Function<CheckpointFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input, const at::Tensor&,
                            const Block& block) {
    context->saved_data["run"] = c10::IValue::make_capsule(c10::make_intrusive<Run>(block, input.device()));
    context->save_for_backward({input});
    return block(input);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const auto run = c10::static_intrusive_pointer_cast<Run>(context->saved_data["run"].toCapsule());
    const auto saved = context->get_saved_variables().front();
    const auto input = saved.detach().set_requires_grad(saved.requires_grad());
    {
      const at::AutoGradMode with_grad(true);
      torch::autograd::backward({run->again(input)}, grads);
    }
    return {input.grad(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor checkpoint(const Block& block, const at::Tensor& input) {
  if (!at::GradMode::is_enabled()) {
    return block(input);
  }
  const auto anchor = at::zeros({}, input.options().dtype(at::kFloat)).set_requires_grad(true);
  return CheckpointFunction::apply(input, anchor, block);
}

}  // namespace transformers
