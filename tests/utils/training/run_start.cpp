#include "utils/training/run_start.h"

#include "support/tiny_models.h"

namespace transformers::testing {

std::shared_ptr<CausalLM> model_of(const GoldenCase& start) {
  const auto text = start.arguments.at("config").dump();
  const auto model = start.arguments.at("config").at("model_type") == "llama" ? tiny_model(LlamaConfig::from_json(text))
                                                                              : tiny_model(GPTJConfig::from_json(text));
  StateDict state;
  for (const auto& [name, tensor] : start.tensors) {
    if (name.starts_with("weights.")) {
      state.insert(name.substr(8), tensor);
    }
  }
  load_state_dict(*model, state);
  return model;
}

}  // namespace transformers::testing
