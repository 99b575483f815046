#include <transformers/llama/configuration_llama.h>

#include "kernel.h"

int main(int count, char** /*arguments*/) {
  if (count > 1) {  // never in the test, which needs no GPU
    double_values(nullptr, 1);
  }
  return transformers::LlamaConfig().num_hidden_layers > 0 ? 0 : 1;
}
