#include <ATen/ATen.h>
#include <transformers/utils/io/safetensors.h>

#include <memory>
#include <unordered_set>

#include "cli/common.h"
#include "cli/forward_inputs.h"

namespace transformers::cli {
namespace {

struct ForwardOptions {
  ModelOptions model;
  Task task = Task::kCausalLM;
  std::string inputs, output;
  bool output_hidden_states = false, output_attentions = false, use_cache = false, grads = false, train = false;
};

using Outputs = StateDict;

void add(Outputs& outputs, const std::string& name, const at::Tensor& tensor) {
  if (tensor.defined()) {
    outputs.insert(name, tensor.detach().to(at::kCPU, at::kFloat));
  }
}

template <typename Output>
void add_lists(Outputs& outputs, const Output& output) {
  for (size_t i = 0; i < output.hidden_states.size(); ++i) {
    add(outputs, "hidden_states." + std::to_string(i), output.hidden_states[i]);
  }
  for (size_t i = 0; i < output.attentions.size(); ++i) {
    add(outputs, "attentions." + std::to_string(i), output.attentions[i]);
  }
}

void add_cache(Outputs& outputs, const std::shared_ptr<Cache>& cache) {
  for (int64_t i = 0; cache && i < cache->num_layers(); ++i) {
    const auto [key, value] = cache->layer(i);
    add(outputs, "past_key_values." + std::to_string(i) + ".key", key);
    add(outputs, "past_key_values." + std::to_string(i) + ".value", value);
  }
}

/// A tied weight has one gradient, listed under the name that was registered first.
void add_gradients(Outputs& outputs, const PreTrainedModel& model) {
  std::unordered_set<const void*> seen;
  for (const auto& parameter : model.named_parameters()) {
    if (!seen.insert(parameter.value().unsafeGetTensorImpl()).second || !parameter.value().requires_grad()) {
      continue;
    }
    const auto& gradient = parameter.value().grad();
    add(outputs, "grad." + parameter.key(), gradient.defined() ? gradient : at::zeros_like(parameter.value()));
  }
}

template <typename Auto>
Outputs run(const ForwardOptions& options, Task task, const auto& call) {
  auto model = load_model<Auto>(options.model);
  model->train(options.train);
  auto read = read_forward_inputs(options.inputs, task, model->config(), model->dtype(), model->device());
  read.inputs.use_cache = options.use_cache;
  read.inputs.output_hidden_states = options.output_hidden_states;
  read.inputs.output_attentions = options.output_attentions;
  TORCH_CHECK(!options.grads || read.has_labels(), options.inputs, ": --grads needs labels, there are none");
  const at::AutoGradMode records(options.grads);
  const auto output = call(*model, read);
  Outputs outputs;
  if constexpr (requires { output.loss; }) {
    add(outputs, "loss", output.loss);
    if (options.grads) {
      output.loss.backward();
      add_gradients(outputs, *model);
    }
  }
  if constexpr (requires { output.logits; }) {
    add(outputs, "logits", output.logits);
  } else if constexpr (requires { output.start_logits; }) {
    add(outputs, "start_logits", output.start_logits);
    add(outputs, "end_logits", output.end_logits);
  } else {
    add(outputs, "last_hidden_state", output.last_hidden_state);
  }
  add_lists(outputs, output);
  if constexpr (requires { output.past_key_values; }) {
    if (options.use_cache) {
      add_cache(outputs, output.past_key_values);
    }
  }
  return outputs;
}

Outputs run_task(const ForwardOptions& options) {
  const auto task = options.task;
  switch (task) {
    case Task::kCausalLM:
      return run<AutoModelForCausalLM>(
          options, task, [](auto& model, auto& read) { return model.forward(read.inputs, {.labels = read.labels}); });
    case Task::kBase:
      return run<AutoModel>(options, task, [](auto& model, auto& read) { return model.forward(read.inputs); });
    case Task::kSequenceClassification:
      return run<AutoModelForSequenceClassification>(
          options, task, [](auto& model, auto& read) { return model.forward(read.inputs, read.labels); });
    case Task::kQuestionAnswering:
      return run<AutoModelForQuestionAnswering>(options, task, [](auto& model, auto& read) {
        return model.forward(read.inputs, read.start_positions, read.end_positions);
      });
    case Task::kTokenClassification:
      return run<AutoModelForTokenClassification>(
          options, task, [](auto& model, auto& read) { return model.forward(read.inputs, read.labels); });
  }
  TORCH_INTERNAL_ASSERT(false, "task without a model");
}

}  // namespace

void add_forward(CLI::App& app) {
  auto* command = app.add_subcommand("forward", "Run a model once and write its outputs to a safetensors file");
  auto options = std::make_shared<ForwardOptions>();
  add_model_options(*command, options->model);
  command
      ->add_option("--inputs", options->inputs, "safetensors file; tensors carry the names of HF's forward arguments")
      ->required();
  command->add_option("--output", options->output, "safetensors file to write; floating-point tensors as float32")
      ->required();
  add_task_option(*command, options->task, "model head", /*trainable=*/false);
  command->add_flag("--output-hidden-states", options->output_hidden_states, "hidden_states.{i}, layers + 1 of them");
  command->add_flag("--output-attentions", options->output_attentions, "attentions.{i}, one a layer");
  command->add_flag("--use-cache", options->use_cache, "past_key_values.{i}.key and .value");
  command->add_flag("--grads", options->grads, "grad.<name> of every trainable parameter; needs labels");
  command->add_flag("--train", options->train, "training mode: dropout on");
  command->footer(
      "Example: transformers-cpp forward --model models/tiny --inputs in.safetensors --output out.safetensors");
  command->callback([options] {
    require_usage(!options->grads || options->task != Task::kBase,
                  "--grads needs a task with a loss, --task base has none");
    check_output(options->output);
    apply(options->model);
    save_safetensors(options->output, run_task(*options));
  });
}

}  // namespace transformers::cli
