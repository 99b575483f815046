// Fine-tunes one model on several processes, each with its share of every batch:
//
//     torchrun --no-python --nproc-per-node 2 example_data_parallel [MODEL_FOLDER [OUTPUT_FOLDER]]
//
// Without a folder a small LLaMA starts from random weights. Rank 0 prints the mean loss of each step and saves.
#include <torch/optim/adamw.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/llama/configuration_llama.h>
#include <transformers/utils/distributed/data_parallel.h>
#include <transformers/utils/distributed/torchrun.h>

#include <iostream>
#include <string>
#include <vector>

namespace {

using namespace transformers;

constexpr int64_t kSharePerRank = 4;
constexpr int64_t kLength = 16;

std::shared_ptr<CausalLM> model_to_train(const std::vector<std::string>& arguments) {
  if (!arguments.empty()) {
    return AutoModelForCausalLM::from_pretrained(arguments[0]);
  }
  LlamaConfig config;
  config.vocab_size = 64;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  return AutoModelForCausalLM::from_config(config);
}

/// Sequences that count up by one from a random token: easy to learn. [batch, kLength]
torch::Tensor counting_batch(int64_t vocab_size, int64_t batch) {
  return (torch::randint(vocab_size, {batch, 1}, torch::kLong) + torch::arange(kLength)).remainder(vocab_size);
}

int train(const std::vector<std::string>& arguments) {
  const auto group = init_process_group();
  const auto causal_lm = model_to_train(arguments);
  causal_lm->train();
  DistributedDataParallel model(causal_lm);  // from here on every rank has rank 0's weights
  torch::optim::AdamW optimizer(causal_lm->parameters(), torch::optim::AdamWOptions(1e-2));
  torch::manual_seed(0);  // the same batches everywhere, of which each rank takes its share

  for (int step = 1; step <= 20; ++step) {
    const auto batch = counting_batch(causal_lm->config().vocab_size, kSharePerRank * group.size());
    const auto input_ids = batch.chunk(group.size())[group.rank()];
    const auto output = model.run([&](CausalLM& replica) {
      return replica.forward({.input_ids = input_ids, .use_cache = false}, {.labels = input_ids});
    });
    optimizer.zero_grad();
    output.loss.backward();
    optimizer.step();

    const auto loss = output.loss.detach().clone();
    group.all_reduce(loss, ReduceOp::kAverage).wait();
    if (group.rank() == 0) {
      std::cout << "step " << step << " loss " << loss.item<double>() << std::endl;
    }
  }
  if (group.rank() == 0 && arguments.size() > 1) {
    causal_lm->save_pretrained(arguments[1]);
  }
  destroy_process_group();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return transformers::record([&] { return train({argv + 1, argv + argc}); });
}
