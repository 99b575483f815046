// Saves a model of every class as scripts/check/load_saved_models.py wants them: save_models FOLDER
#include <ATen/ATen.h>
#include <torch/utils.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/io/safetensors.h>

#include <filesystem>
#include <functional>

#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

using Tensors = torch::OrderedDict<std::string, at::Tensor>;

Tensors outputs(PreTrainedModel& model, const ModelInputs& inputs) {
  if (auto* causal = dynamic_cast<CausalLM*>(&model)) {
    return {{"logits", causal->forward(inputs).logits}};
  }
  if (auto* base = dynamic_cast<BaseModel*>(&model)) {
    return {{"last_hidden_state", base->forward(inputs).last_hidden_state}};
  }
  if (auto* sequence = dynamic_cast<GenericForSequenceClassification*>(&model)) {
    return {{"logits", sequence->forward(inputs).logits}};
  }
  if (auto* answers = dynamic_cast<GenericForQuestionAnswering*>(&model)) {
    const auto output = answers->forward(inputs);
    return {{"start_logits", output.start_logits}, {"end_logits", output.end_logits}};
  }
  return {{"logits", dynamic_cast<GenericForTokenClassification&>(model).forward(inputs).logits}};
}

void save(PreTrainedModel& model, const std::string& folder, int64_t max_shard_size) {
  model.eval();
  model.save_pretrained(folder, {.max_shard_size = max_shard_size});
  const auto ids = tiny_ids(2, 7);
  auto tensors = outputs(model, {.input_ids = ids});
  tensors.insert("input_ids", ids);
  save_safetensors(folder + "/expected.safetensors", tensors);
}

template <typename... Models>
void save_each(const std::string& folder, Models... models) {
  (save(*models, folder + "/" + models->architecture(), 5'000'000'000), ...);
}

void save_all(const std::string& folder) {
  const at::NoGradGuard no_grad;
  torch::manual_seed(5);
  auto llama = tiny_llama();
  llama.set_num_labels(3);
  auto gptj = tiny_gptj();
  gptj.pad_token_id = 0;
  save_each(folder, LlamaModel(llama), LlamaForSequenceClassification(llama), LlamaForQuestionAnswering(llama),
            LlamaForTokenClassification(llama), GPTJModel(gptj), GPTJForSequenceClassification(gptj),
            GPTJForQuestionAnswering(gptj));
  for (const auto& [name, config] : config_grid()) {
    save(*tiny_model(*config), folder + "/" + name, 5'000'000'000);
    save(*tiny_model(*config), folder + "/" + name + "_sharded", 4000);
  }
}

}  // namespace
}  // namespace transformers::testing

int main(int, char** arguments) { transformers::testing::save_all(arguments[1]); }
