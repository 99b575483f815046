// Removes the half of a model's MLP channels that matters least for a text, and trains the model on that text to
// recover.
//   prune_and_recover                          a tiny model that has learnt a few sentences of ids
//   prune_and_recover FOLDER TEXT_FILE OUTPUT  a model folder; the pruned model is saved in OUTPUT
#include <torch/optim/adamw.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/model_pruning/importance.h>
#include <transformers/utils/tokenization/tokenizer.h>

#include <fstream>
#include <iostream>

using namespace transformers;

double loss_of(CausalLM& model, const torch::Tensor& ids) {
  const torch::NoGradGuard no_grad;
  model.eval();
  return model.forward({.input_ids = ids, .use_cache = false}, {.labels = ids}).loss.item<double>();
}

void train(CausalLM& model, const torch::Tensor& ids, int steps, double learning_rate) {
  model.train();
  // The optimizer is made after pruning: an earlier one would hold parameters that no longer exist.
  torch::optim::AdamW optimizer(model.parameters(), torch::optim::AdamWOptions(learning_rate).weight_decay(0));
  for (int step = 0; step < steps; ++step) {
    const auto output = model.forward({.input_ids = ids, .use_cache = false}, {.labels = ids});
    optimizer.zero_grad();
    output.loss.backward();
    optimizer.step();
  }
}

std::shared_ptr<CausalLM> tiny_model(const torch::Tensor& ids) {
  LlamaConfig config;
  config.vocab_size = 64;
  config.hidden_size = 32;
  config.intermediate_size = 96;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  const auto model = AutoModelForCausalLM::from_config(config);
  train(*model, ids, 80, 1e-2);
  return model;
}

/// The first 512 tokens of a text, [1, tokens].
torch::Tensor ids_of(const std::string& folder, const std::string& text_file) {
  std::ifstream file(text_file);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  return torch::tensor(load_tokenizer(folder)->encode(text), torch::kLong).unsqueeze(0).slice(1, 0, 512);
}

int main(int argc, char** argv) try {
  torch::manual_seed(0);
  const bool has_folder = argc == 4;
  const auto ids = has_folder ? ids_of(argv[1], argv[2]) : torch::randint(64, {8, 24}, torch::kLong);
  const auto model =
      has_folder ? AutoModelForCausalLM::from_pretrained(argv[1], {.dtype = torch::kFloat}) : tiny_model(ids);
  std::cout << "before " << loss_of(*model, ids) << " parameters " << model->num_parameters() << '\n';

  const auto plan =
      plan_pruning(*model, {.shares = {{PrunablePart::kChannels, 0.5}},
                            .importance = {.criterion = PruningCriterion::kTaylor, .calibration = {ids}}});
  prune_model(*model, plan);
  std::cout << "pruned " << loss_of(*model, ids) << " parameters " << model->num_parameters() << '\n';

  train(*model, ids, has_folder ? 10 : 30, has_folder ? 1e-5 : 3e-3);
  std::cout << "recovered " << loss_of(*model, ids) << '\n';
  if (has_folder) {
    model->save_pretrained(argv[3]);
  }
} catch (const c10::Error& error) {
  std::cerr << "error: " << error.what_without_backtrace() << '\n';
  return 1;
}
