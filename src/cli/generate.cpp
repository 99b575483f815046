// The subcommand `generate`: continues prompts, files of ids or a conversation on stdin, and writes text as it is
// generated where one row without beams allows it.
#include <transformers/utils/files/model_folder.h>
#include <transformers/utils/generation/generate.h>
#include <transformers/utils/io/safetensors.h>
#include <transformers/utils/tokenization/chat_format.h>
#include <transformers/utils/tokenization/tokenizer.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <iostream>
#include <memory>

#include "cli/common.h"
#include "cli/forward_inputs.h"
#include "cli/generation_options.h"
#include "cli/interrupt.h"
#include "utils/files/internal/regular_file.h"
#include "utils/text/printable.h"

namespace transformers::cli {
namespace {

constexpr size_t kMostText = size_t{1} << 28;

struct GenerateOptions {
  ModelOptions model;
  GenerationOptions generation;
  std::string prompt, prompt_file, input_ids, output, system, assistant_model;
  std::optional<std::string> cache;
  bool chat = false, interactive = false, output_scores = false;
};

struct Session {
  std::shared_ptr<CausalLM> model;
  std::shared_ptr<CausalLM> assistant;         // null without --assistant-model
  std::shared_ptr<const Tokenizer> tokenizer;  // null where ids come from a file and no text is needed
  std::optional<ChatFormat> chat_format;
  GenerationConfig config;
};

Session open_session(const GenerateOptions& options) {
  Session session;
  session.config = from_options([&] { return options.generation.config(); });
  session.config.cache_implementation = options.cache;
  const ModelFolder folder(options.model.model);
  folder.read_one_save([&] {
    if (options.input_ids.empty() || !session.config.stop_strings.empty()) {
      session.tokenizer = load_tokenizer(folder);
    }
    if (options.chat || options.interactive) {
      session.chat_format = load_chat_format(folder);
    }
    session.model = load_model<AutoModelForCausalLM>(options.model, folder);
  });
  if (!options.assistant_model.empty()) {
    auto assistant = options.model;
    assistant.model = options.assistant_model;
    session.assistant = load_model<AutoModelForCausalLM>(assistant, ModelFolder(assistant.model));
  }
  // The scores of a beam belong to texts that may be dropped later, so none are written.
  const auto beams = session.config.with_defaults(session.model->generation_config).num_beams.value_or(1);
  session.config.output_scores = options.output_scores && beams == 1;
  if (session.chat_format && session.config.eos_token_id.empty()) {
    auto& ends = session.config.eos_token_id;
    ends = session.model->generation_config.eos_token_id;
    const auto turn = end_of_turn_id(*session.tokenizer, *session.chat_format);
    if (std::ranges::find(ends, turn) == ends.end()) {
      ends.push_back(turn);
    }
  }
  return session;
}

/// Puts rows of different length into one batch, with padding on the left.
ModelInputs left_padded(const std::vector<std::vector<int64_t>>& rows, int64_t pad_id) {
  size_t longest = 0;
  for (const auto& row : rows) {
    longest = std::max(longest, row.size());
  }
  const auto batch = static_cast<int64_t>(rows.size()), seq = static_cast<int64_t>(longest);
  auto ids = at::full({batch, seq}, pad_id, at::kLong);
  auto mask = at::zeros({batch, seq}, at::kLong);
  for (int64_t i = 0; i < batch; ++i) {
    const auto length = static_cast<int64_t>(rows[static_cast<size_t>(i)].size());
    ids[i].narrow(0, seq - length, length).copy_(at::tensor(rows[static_cast<size_t>(i)], at::kLong));
    mask[i].narrow(0, seq - length, length).fill_(1);
  }
  return {.input_ids = ids, .attention_mask = mask};
}

int64_t pad_id(const Session& session) {
  const auto merged = session.config.with_defaults(session.model->generation_config);
  if (merged.pad_token_id) {
    return *merged.pad_token_id;
  }
  return merged.eos_token_id.empty() ? 0 : std::max<int64_t>(0, merged.eos_token_id.front());
}

/// Builds the batch for the model. On a GPU, an id that the embedding table lacks would end the process.
ModelInputs batch_of(const Session& session, const std::vector<std::vector<int64_t>>& rows) {
  auto inputs = left_padded(rows, pad_id(session));
  check_ids("the prompt's tokens ", inputs.input_ids, 0, session.model->config().vocab_size);
  const auto device = session.model->device();
  inputs.input_ids = inputs.input_ids.to(device);
  inputs.attention_mask = inputs.attention_mask.to(device);
  return inputs;
}

std::vector<int64_t> encoded(const Session& session, const std::string& text, const std::string& system) {
  if (!session.chat_format) {
    return session.tokenizer->encode(text);
  }
  std::vector<ChatMessage> messages;
  if (!system.empty()) {
    messages.push_back({"system", system});
  }
  messages.push_back({"user", text});
  return encode_chat(*session.tokenizer, *session.chat_format, messages);
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

/// input_ids and attention_mask of a file, both [batch, seq].
ModelInputs ids_of_file(const std::string& path, const CausalLM& model) {
  const SafetensorsFile file(path);
  for (const auto& info : file.tensors()) {
    TORCH_CHECK(info.name == "input_ids" || info.name == "attention_mask", path,
                ": expected input_ids and attention_mask, found ", printable(info.name));
    TORCH_CHECK(info.shape.size() == 2, path, ": ", info.name, " must have shape [batch, seq], got ",
                c10::IntArrayRef(info.shape));
  }
  TORCH_CHECK(file.contains("input_ids"), path, ": tensor input_ids is missing");
  const auto ids = file.tensor("input_ids");
  TORCH_CHECK(ids.scalar_type() == at::kLong || ids.scalar_type() == at::kInt, path, ": input_ids must be int64, got ",
              ids.scalar_type());
  check_ids(path + ": input_ids ", ids, 0, model.config().vocab_size);
  const auto device = model.device();
  auto mask =
      file.contains("attention_mask") ? file.tensor("attention_mask").ne(0).to(device, at::kLong) : at::Tensor();
  TORCH_CHECK(!mask.defined() || mask.sizes() == ids.sizes(), path,
              ": attention_mask must have the shape of input_ids, ", ids.sizes(), ", got ", mask.sizes());
  return {.input_ids = ids.to(device, at::kLong), .attention_mask = mask};
}

ModelInputs inputs_of(const Session& session, const GenerateOptions& options) {
  if (!options.input_ids.empty()) {
    return ids_of_file(options.input_ids, *session.model);
  }
  auto prompts = options.prompt_file.empty() ? std::vector<std::string>{options.prompt}
                                             : lines_of(read_regular_file(options.prompt_file, kMostText));
  TORCH_CHECK(!prompts.empty(), options.prompt_file, ": the prompt file is empty");
  std::vector<std::vector<int64_t>> rows;
  for (const auto& prompt : prompts) {
    rows.push_back(encoded(session, prompt, options.system));
    TORCH_CHECK(!rows.back().empty(), options.prompt_file.empty() ? "--prompt" : options.prompt_file, ": prompt ",
                rows.size(), " has no tokens");
  }
  return batch_of(session, rows);
}

void print(std::string_view text) { std::cout << text << std::flush; }

/// Writes text while it is generated, where that is possible: with one row and without beams.
std::shared_ptr<Streamer> streamer_for(const Session& session, const ModelInputs& inputs) {
  const auto merged = session.config.with_defaults(session.model->generation_config);
  const bool one_text = inputs.input_ids.size(0) == 1 && merged.num_beams.value_or(1) == 1 &&
                        merged.num_return_sequences.value_or(1) == 1;
  if (!session.tokenizer || !one_text) {
    return nullptr;
  }
  const auto on_text = [](std::string_view text) {
    print(text);
    return true;
  };
  return std::make_shared<TextStreamer>(session.tokenizer, on_text, TextStreamerOptions{.skip_prompt = true});
}

void print_rows(const Session& session, const at::Tensor& sequences, int64_t prompt_length) {
  const auto ids = sequences.slice(1, prompt_length).to(at::kCPU);
  for (int64_t row = 0; row < ids.size(0); ++row) {
    print(session.tokenizer->decode(ids[row]) + "\n");
  }
}

std::string rate(int64_t tokens, double seconds) {
  std::array<char, 96> text{};
  std::snprintf(text.data(), text.size(), "%lld tokens in %.2f s (%.1f tokens/s)", static_cast<long long>(tokens),
                seconds, seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0);
  return text.data();
}

void print_summary(const GenerateOutput& output) {
  const auto rows = output.sequences.size(0);
  inform("prompt: " + rate(output.prompt_tokens, output.prefill_seconds));
  // The first new token of each row was computed with the prompt.
  inform("new:    " + rate(std::max<int64_t>(0, output.new_tokens - rows), output.decode_seconds) + ", " +
         std::to_string(output.new_tokens) + " in all");
  if (output.drafted_tokens > 0) {
    inform("drafts: " + std::to_string(output.accepted_tokens) + " of " + std::to_string(output.drafted_tokens) +
           " tokens accepted");
  }
  inform("memory: " + std::to_string(peak_rss_bytes() >> 20) + " MiB at most");
}

void write_output(const GenerateOptions& options, const GenerateOutput& output) {
  StateDict tensors;
  tensors.insert("sequences", output.sequences.to(at::kCPU));
  for (size_t step = 0; step < output.scores.size(); ++step) {
    tensors.insert("scores." + std::to_string(step), output.scores[step].to(at::kCPU, at::kFloat));
  }
  save_safetensors(options.output, tensors);
}

/// Ctrl-C ends every row at its present length; the text so far is still written and counted.
class InterruptCriteria : public StoppingCriteria {
 public:
  at::Tensor operator()(const at::Tensor& input_ids, const std::vector<at::Tensor>& /*scores*/) override {
    return at::full({input_ids.size(0)}, interrupted(), input_ids.options().dtype(at::kBool));
  }
};

GenerateOutput generate_once(const Session& session, const ModelInputs& inputs) {
  const GenerateHooks hooks{.stopping_criteria = {std::make_shared<InterruptCriteria>()},
                            .streamer = streamer_for(session, inputs),
                            .tokenizer = session.tokenizer,
                            .assistant_model = session.assistant};
  watch_for_interrupt();
  auto output = generate(*session.model, inputs, session.config, hooks);
  if (hooks.streamer) {
    print("\n");
  } else if (session.tokenizer) {
    print_rows(session, output.sequences, inputs.input_ids.size(1));
  }
  return output;
}

/// Reads a conversation from stdin, one turn a line, until the end of the input.
void converse(const Session& session, const GenerateOptions& options) {
  std::vector<ChatMessage> messages;
  if (!options.system.empty()) {
    messages.push_back({"system", options.system});
  }
  const bool on_terminal = isatty(STDIN_FILENO) != 0;
  std::string line = options.prompt;
  const auto next_line = [&] {
    if (on_terminal && !is_quiet()) {
      std::cerr << "> " << std::flush;
    }
    end_on_interrupt();
    return static_cast<bool>(std::getline(std::cin, line));
  };
  while (!line.empty() || next_line()) {
    if (line.empty()) {
      continue;
    }
    messages.push_back({"user", line});
    line.clear();
    const auto ids = encode_chat(*session.tokenizer, *session.chat_format, messages);
    const auto inputs = batch_of(session, {ids});
    const auto output = generate_once(session, inputs);
    const auto answer = output.sequences[0].slice(0, inputs.input_ids.size(1));
    messages.push_back({"assistant", session.tokenizer->decode(answer)});
    print_summary(output);
  }
}

void check_usage(const GenerateOptions& options) {
  const bool from_file = !options.input_ids.empty(), talks = options.chat || options.interactive;
  require_usage(!from_file || !options.output.empty(), "--input-ids needs --output");
  require_usage(!from_file || !talks, "--input-ids excludes --chat and --interactive");
  require_usage(!options.output_scores || !options.output.empty(), "--output-scores needs --output");
  require_usage(!options.interactive || options.output.empty(), "--interactive excludes --output");
  require_usage(options.system.empty() || talks, "--system needs --chat or --interactive");
  require_usage(!options.model.model.empty() || from_file, "--config has no tokenizer; give the prompt as --input-ids");
}

void run(const GenerateOptions& options) {
  check_usage(options);
  if (!options.output.empty()) {
    check_output(options.output);
  }
  apply(options.model);
  const auto session = open_session(options);
  // Sets the seed again, because building a model draws random numbers too, and the same seed must give Python's
  // tokens.
  seed(options.model);
  if (options.interactive) {
    return converse(session, options);
  }
  const auto output = generate_once(session, inputs_of(session, options));
  if (!options.output.empty()) {
    write_output(options, output);
  }
  print_summary(output);
}

}  // namespace

void add_generate(CLI::App& app) {
  auto* command = app.add_subcommand("generate", "Continue a text, or answer in a chat");
  auto options = std::make_shared<GenerateOptions>();
  add_model_options(*command, options->model);
  add_quantize_option(*command, options->model);
  auto* source = command->add_option_group("prompt");
  auto* prompt = source->add_option("--prompt", options->prompt, "the text to continue");
  source->add_option("--prompt-file", options->prompt_file, "file of prompts, one a line, run as one batch")
      ->excludes(prompt);
  source
      ->add_option("--input-ids", options->input_ids,
                   "safetensors file with input_ids [batch, seq] and optionally attention_mask; needs no tokenizer")
      ->excludes(prompt);
  source->add_flag("--interactive", options->interactive, "chat over stdin, a line a turn");
  source->require_option(1, 2);
  command->add_flag("--chat", options->chat, "the prompt is a user's message in the model's chat format");
  command->add_option("--system", options->system, "system message of the chat");
  command->add_option("--output", options->output, "safetensors file for sequences int64 [rows, seq + new]");
  command->add_flag("--output-scores", options->output_scores,
                    "also scores.{t}, the processed scores of each step; none with beams");
  command->add_option("--assistant-model", options->assistant_model,
                      "folder of a smaller model of the same vocabulary, which drafts tokens for the model to verify");
  command->add_option("--cache", options->cache, "kind of key/value cache")
      ->check(CLI::IsMember({"dynamic", "static"}))
      ->default_str("dynamic");
  options->generation.add_to(*command);
  command->footer(
      "Example: transformers-cpp generate --model models/SmolLM2-135M-Instruct --chat --prompt 'What is a tensor?' "
      "--max-new-tokens 128");
  command->callback([options] { run(*options); });
}

}  // namespace transformers::cli
