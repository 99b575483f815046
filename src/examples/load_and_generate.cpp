// Continues a text with the model of a Hugging Face folder and prints the continuation while it is generated.
//
//   example_load_and_generate FOLDER [PROMPT]
#include <transformers/auto/modeling_auto.h>
#include <transformers/utils/generation/generate.h>
#include <transformers/utils/tokenization/tokenizer.h>

#include <iostream>

namespace {

void continue_text(const std::string& folder, const std::string& prompt) {
  const auto tokenizer = transformers::load_tokenizer(folder);

  // The report says what loading found: a head that the file lacks is newly initialized, a missing layer is an error.
  transformers::LoadReport report;
  const auto model = transformers::AutoModelForCausalLM::from_pretrained(folder, {.report = &report});
  std::cerr << model->architecture() << ", " << model->num_parameters() << " parameters, " << report.unexpected.size()
            << " unused tensors\n";

  const auto print = [](std::string_view text) {
    std::cout << text << std::flush;
    return true;  // false would end the text here
  };
  transformers::GenerateHooks hooks;
  hooks.tokenizer = tokenizer;
  hooks.streamer =
      std::make_shared<transformers::TextStreamer>(tokenizer, print, transformers::TextStreamerOptions{true});

  const auto input_ids = torch::tensor(tokenizer->encode(prompt)).unsqueeze(0);  // [1, seq]
  const auto output = transformers::generate(*model, {.input_ids = input_ids}, {.max_new_tokens = 16}, hooks);
  std::cout << '\n';
  std::cerr << output.new_tokens << " tokens, " << output.decode_seconds << " s after the first\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: " << argv[0] << " FOLDER [PROMPT]\n";
    return 2;
  }
  try {
    continue_text(argv[1], argc > 2 ? argv[2] : "The capital of France is");
    return 0;
  } catch (const c10::Error& error) {
    std::cerr << "error: " << error.what_without_backtrace() << '\n';
    return 1;
  }
}
