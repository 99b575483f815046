#include "utils/training/training_run.h"

#include <ATen/ATen.h>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

TrainingArguments with_folder(TrainingArguments arguments, const std::string& output_dir) {
  arguments.max_steps = 9;
  if (!arguments.step_in_backward) {
    arguments.gradient_accumulation_steps = 2;
  }
  arguments.output_dir = output_dir;
  return arguments;
}

TrainerCallbacks with_files(TrainerCallbacks callbacks, const std::shared_ptr<CausalLM>& model) {
  callbacks.write_model = [model](const std::string& folder) { model->save_pretrained(folder); };
  callbacks.read_model = [model](const std::string& folder) {
    load_state_dict(*model, state_dict(*AutoModelForCausalLM::from_pretrained(folder)));
  };
  return callbacks;
}

}  // namespace

std::shared_ptr<TensorDataset> random_samples(int64_t count) {
  at::manual_seed(11);
  const auto ids = at::randint(1, 40, {count, 6}, at::kLong);
  return std::make_shared<TensorDataset>(Batch{{"input_ids", ids}, {"labels", ids}});
}

std::shared_ptr<CausalLM> model_with_dropout() {
  auto config = tiny_gptj();
  config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.2;
  return tiny_model(config);
}

void expect_same_weights(const CausalLM& model, const CausalLM& expected) {
  const auto weights = state_dict(expected);
  for (const auto& item : state_dict(model)) {
    SCOPED_TRACE(item.key());
    EXPECT_TENSORS_EQUAL(item.value(), weights[item.key()]);
  }
}

TrainingRun::TrainingRun(std::shared_ptr<CausalLM> of, const std::string& output_dir, TrainingArguments arguments,
                         TrainerCallbacks callbacks)
    : model(std::move(of)),
      optimizer(decay_groups(*model, torch::optim::AdamWOptions(1e-2))),
      scheduler(get_scheduler(SchedulerType::kLinear, optimizer, {.num_warmup_steps = 2, .num_training_steps = 9})),
      data(random_samples(), padding_collator(0), {.batch_size = 3}),
      trainer(*model, causal_lm_task(*model), optimizer, *scheduler, with_folder(std::move(arguments), output_dir),
              with_files(std::move(callbacks), model)) {}

Evaluation held_out() {
  const auto ids = tiny_ids(4, 6);
  return {.dataset = std::make_shared<TensorDataset>(Batch{{"input_ids", ids}, {"labels", ids}}),
          .collator = padding_collator(0),
          .per_device_eval_batch_size = 3};
}

}  // namespace transformers::testing
