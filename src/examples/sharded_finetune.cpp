// Fine-tunes a model that no process holds completely: weights, gradients and optimizer states are split over the
// ranks.
//
//     torchrun --no-python --nproc-per-node 2 example_sharded_finetune OUTPUT_FOLDER [MODEL_FOLDER]
//
// Without a model folder a small LLaMA starts from random weights. Half-way a sharded checkpoint is written; a later
// start, with any number of processes, continues from it. At the end the model is saved in the form that Python loads.
#include <transformers/auto/modeling_auto.h>
#include <transformers/llama/configuration_llama.h>
#include <transformers/utils/distributed/torchrun.h>
#include <transformers/utils/fully_sharded/sharded_state.h>
#include <transformers/utils/optim/optimizer.h>
#include <transformers/utils/optim/parameter_groups.h>

#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

namespace {

using namespace transformers;

constexpr int64_t kBatch = 8;
constexpr int64_t kLength = 16;
constexpr int64_t kSteps = 20;

std::shared_ptr<CausalLM> model_to_train(const std::vector<std::string>& arguments) {
  if (arguments.size() > 1) {
    return AutoModelForCausalLM::from_pretrained(arguments[1]);  // of which each rank reads its rows
  }
  torch::manual_seed(0);
  LlamaConfig config;
  config.vocab_size = 64;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  return AutoModelForCausalLM::from_config(config);
}

/// Sequences that count up by one from a random token, the same for a step in every run. [kBatch, kLength]
torch::Tensor counting_batch(int64_t vocab_size, int64_t step) {
  torch::manual_seed(step);
  return (torch::randint(vocab_size, {kBatch, 1}, torch::kLong) + torch::arange(kLength)).remainder(vocab_size);
}

/// The number of steps that the last run in the same folder had done; 0: there was no run.
int64_t resume(const std::string& folder, const ProcessGroup& group, FullyShardedModule& model, AdamW& optimizer) {
  group.barrier();
  if (!ShardedCheckpoint::exists(folder)) {
    return 0;
  }
  const ShardedCheckpoint checkpoint(folder, group);
  load_sharded_checkpoint(checkpoint, group, checkpoint_state(model));
  optimizer.load_state_dict(optimizer_state(checkpoint, model, optimizer));
  return std::stoll(checkpoint.metadata().at("step"));
}

/// The mean over all ranks.
double mean_loss(const torch::Tensor& loss, const ProcessGroup& group) {
  const auto mean = loss.detach().clone().div_(group.size());
  group.all_reduce(mean).wait();
  return mean.item<double>();
}

int train(const std::vector<std::string>& arguments) {
  TORCH_CHECK(!arguments.empty(), "usage: example_sharded_finetune OUTPUT_FOLDER [MODEL_FOLDER]");
  const auto group = init_process_group();
  TORCH_CHECK(kBatch % group.size() == 0, "the ranks must divide a batch of ", kBatch, ", got ", group.size());
  const auto checkpoint_folder = arguments[0] + "/checkpoint";
  if (group.rank() == 0) {
    std::filesystem::create_directories(arguments[0]);
  }
  const auto causal_lm = model_to_train(arguments);
  causal_lm->train();
  causal_lm->gradient_checkpointing_enable();
  FullyShardedDataParallel model(causal_lm);
  const auto options = torch::optim::AdamWOptions(1e-2).weight_decay(0.01);
  AdamW optimizer(decay_groups(*causal_lm, options), options);

  auto step = resume(checkpoint_folder, group, model, optimizer);
  while (step < kSteps) {
    const auto batch = counting_batch(causal_lm->config().vocab_size, ++step);
    const auto input_ids = batch.chunk(group.size())[group.rank()];
    const auto output = model.run(
        [&](CausalLM& lm) { return lm.forward({.input_ids = input_ids, .use_cache = false}, {.labels = input_ids}); });
    optimizer.zero_grad();
    output.loss.backward();
    model.clip_grad_norm_(1.0);
    optimizer.step();

    const auto loss = mean_loss(output.loss, group);
    if (group.rank() == 0) {
      std::cout << "step " << step << " loss " << loss << std::endl;
    }
    if (step == kSteps / 2) {
      auto state = checkpoint_state(model);
      state.merge(checkpoint_state(model, optimizer, optimizer.state_dict()));
      save_sharded_checkpoint(checkpoint_folder, group, state, {{"step", std::to_string(step)}});
    }
  }
  save_pretrained(model, arguments[0] + "/model");
  destroy_process_group();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return transformers::record([&] { return train({argv + 1, argv + argc}); });
}
