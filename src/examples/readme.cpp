// README.md shows the rest of this file word for word.
#include <transformers/transformers.h>

#include <iostream>

int main() {
  const std::string folder = "models/SmolLM2-135M-Instruct";
  const auto tokenizer = transformers::load_tokenizer(folder);
  const auto model = transformers::AutoModelForCausalLM::from_pretrained(folder);
  const auto prompt = torch::tensor(tokenizer->encode("The capital of France is")).unsqueeze(0);
  const auto output = transformers::generate(*model, {.input_ids = prompt}, {.max_new_tokens = 8});
  std::cout << tokenizer->decode(output.sequences[0]) << '\n';
}
