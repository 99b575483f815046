#include "cli/forward_inputs.h"

#include <transformers/llama/configuration_llama.h>

#include "fuzz/scratch_folder.h"
#include "fuzz/target.h"

namespace transformers::fuzz {
namespace {

LlamaConfig small_config() {
  LlamaConfig config;
  config.vocab_size = 5;
  config.hidden_size = 4;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 2;
  return config;
}

}  // namespace

void try_input(std::string_view input) {
  static const ScratchFolder folder;
  static const auto config = small_config();
  const auto task = static_cast<cli::Task>(input.size() % 5);
  cli::read_forward_inputs(folder.write("inputs.safetensors", input), task, config, c10::kFloat, c10::kCPU);
}

}  // namespace transformers::fuzz
