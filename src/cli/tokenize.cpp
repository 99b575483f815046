#include <transformers/utils/tokenization/tokenizer.h>

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/common.h"
#include "utils/files/internal/regular_file.h"

namespace transformers::cli {
namespace {

constexpr size_t kMostText = size_t{1} << 31;

struct TokenizeOptions {
  std::string model, text, file;
  bool no_special_tokens = false, lines = false;
};

struct DetokenizeOptions {
  std::string model;
  std::vector<int64_t> ids;
  bool keep_special_tokens = false;
};

void print_ids(const Tokenizer& tokenizer, std::string_view text, bool add_special_tokens) {
  std::cout << nlohmann::json{{"ids", tokenizer.encode(text, add_special_tokens)}}.dump() << "\n";
}

/// Lines end at LF only; a last line without one counts.
void print_lines(const Tokenizer& tokenizer, std::string_view text, bool add_special_tokens) {
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    print_ids(tokenizer, text.substr(0, end), add_special_tokens);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

void tokenize(const TokenizeOptions& options) {
  const auto tokenizer = load_tokenizer(options.model);
  const auto text = options.file.empty() ? options.text : read_regular_file(options.file, kMostText);
  options.lines ? print_lines(*tokenizer, text, !options.no_special_tokens)
                : print_ids(*tokenizer, text, !options.no_special_tokens);
  std::cout << std::flush;
}

}  // namespace

void add_tokenize(CLI::App& app) {
  auto* command = app.add_subcommand("tokenize", "Print the token ids of a text as JSON");
  auto options = std::make_shared<TokenizeOptions>();
  command->add_option("--model", options->model, "folder with tokenizer.json or tokenizer.model")->required();
  auto* source = command->add_option_group("text");
  source->add_option("--text", options->text, "the text");
  source->add_option("--file", options->file, "file of text, byte for byte");
  source->require_option(1);
  command->add_flag("--no-special-tokens", options->no_special_tokens,
                    "leave out the tokens that are added around a text");
  command->add_flag("--lines", options->lines, "one JSON object for each line of the text");
  command->footer("Example: transformers-cpp tokenize --model models/SmolLM2-135M-Instruct --text 'Hello world'");
  command->callback([options] { tokenize(*options); });
}

void add_detokenize(CLI::App& app) {
  auto* command = app.add_subcommand("detokenize", "Print the text of token ids");
  auto options = std::make_shared<DetokenizeOptions>();
  command->add_option("--model", options->model, "folder with tokenizer.json or tokenizer.model")->required();
  command->add_option("--ids", options->ids, "token ids, separated by commas")->required()->delimiter(',');
  command->add_flag("--keep-special-tokens", options->keep_special_tokens, "write special tokens too");
  command->footer("Example: transformers-cpp detokenize --model models/SmolLM2-135M-Instruct --ids 19556,905");
  command->callback([options] {
    std::cout << load_tokenizer(options->model)->decode(options->ids, !options->keep_special_tokens) << std::endl;
  });
}

}  // namespace transformers::cli
