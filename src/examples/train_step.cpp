// A model is a torch::nn module: LibTorch's own loop trains it. Prints the loss of each step.
#include <torch/optim/adamw.h>
#include <transformers/llama/modeling_llama.h>

#include <iostream>

int main() {
  torch::manual_seed(0);
  transformers::LlamaConfig config;
  config.vocab_size = 64;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;

  transformers::LlamaForCausalLM model(config);
  model->train();
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(1e-2));
  const auto input_ids = torch::randint(config.vocab_size, {2, 16}, torch::kLong);  // [batch, seq]

  for (int step = 1; step <= 10; ++step) {
    const auto output = model->forward({.input_ids = input_ids, .use_cache = false}, {.labels = input_ids});
    optimizer.zero_grad();
    output.loss.backward();
    optimizer.step();
    std::cout << "step " << step << " loss " << output.loss.item<double>() << '\n';
  }
}
