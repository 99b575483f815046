// A folder with an adapter, beside a small model: adapter_config.json, a zero byte, adapter_model.safetensors.
#include <c10/util/Exception.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/peft/peft_model.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "fuzz/scratch_folder.h"
#include "fuzz/target.h"

namespace transformers::fuzz {
namespace {

LlamaForCausalLM small_model() {
  LlamaConfig config;
  config.vocab_size = 6;
  config.hidden_size = 4;
  config.intermediate_size = 6;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  config.num_key_value_heads = 1;
  config.max_position_embeddings = 8;
  config.attention_bias = true;
  return LlamaForCausalLM(config);
}

/// Takes the adapter out again, merged or not, and checks that nothing of it is left.
struct TakenOut {
  PeftModelImpl& adapters;

  ~TakenOut() {
    try {
      adapters.unmerge_adapter();
      for (const auto& name : adapters.adapter_names()) {
        adapters.delete_adapter(name);
      }
    } catch (const c10::Error& error) {
      std::fprintf(stderr, "an adapter cannot be taken out again: %s\n", error.what_without_backtrace());
      std::abort();
    }
  }
};

}  // namespace

void try_input(std::string_view input) {
  static const ScratchFolder folder;
  static const auto model = small_model();
  static PeftModel adapters(model.ptr());
  const auto end = std::min(input.find('\0'), input.size());
  folder.write("adapter_config.json", input.substr(0, end));
  folder.write("adapter_model.safetensors", input.substr(std::min(end + 1, input.size())));
  const TakenOut taken_out{*adapters};
  try {
    adapters->load_adapter("a", folder.path());
  } catch (const c10::Error&) {
    if (!adapters->adapter_names().empty()) {
      std::abort();  // a refused adapter was to change nothing
    }
    throw;
  }
  adapters->merge_adapter();
}

}  // namespace transformers::fuzz
