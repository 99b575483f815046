// What a program outside the library sees: one header, one object, one result.
#include <transformers/llama/modeling_llama.h>
#include <transformers/version.h>

#include <iostream>

int main() {
  transformers::Linear linear(3, 2);
  std::cout << "libtransformers " << TRANSFORMERS_VERSION << ": " << linear->forward(torch::ones({1, 3})).sizes()
            << '\n';
}
