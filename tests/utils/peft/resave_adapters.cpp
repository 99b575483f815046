// resave_adapters FOLDER...: for the program scripts/check/round_trip_adapters.py. Each folder holds base/, a causal
// language model, and adapter/, peft's adapter for it, and input_ids.safetensors; beside them come ours.safetensors
// (logits), resaved/ (the adapter as we write it) and merged/ (a plain model).
#include <torch/torch.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/utils/io/safetensors.h>
#include <transformers/utils/peft/peft_model.h>

#include <iostream>

namespace {

using namespace transformers;

void resave(const std::string& folder) {
  const at::NoGradGuard no_grad;
  const auto model = AutoModelForCausalLM::from_pretrained(folder + "/base");
  PeftModel adapters(model);
  adapters->load_adapter("default", folder + "/adapter");
  const SafetensorsFile inputs(folder + "/input_ids.safetensors");
  StateDict outputs;
  outputs.insert("logits", model->forward({.input_ids = inputs.tensor("input_ids")}).logits);
  save_safetensors(folder + "/ours.safetensors", outputs);
  adapters->save_pretrained(folder + "/resaved");
  if (!adapters->peft_config("default").lora_bias) {
    adapters->merge_and_unload();
    model->save_pretrained(folder + "/merged");
  }
}

}  // namespace

int main(int count, char** arguments) {
  try {
    for (int i = 1; i < count; ++i) {
      resave(arguments[i]);
    }
  } catch (const c10::Error& error) {
    std::cerr << "error: " << error.what_without_backtrace() << "\n";
    return 1;
  }
  return 0;
}
