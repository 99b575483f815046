#pragma once

#include <transformers/export.h>
#include <transformers/utils/files/model_folder.h>
#include <transformers/utils/tokenization/tokenizer.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// A message: its role (`system`, `user` or `assistant`) and its text.
struct ChatMessage {
  std::string role, content;
};

/// A built-in format of conversations. Templates are recognised, but never executed.
struct ChatFormat {
  enum class Layout { kChatMl, kLlama2, kLlama3 };
  Layout layout;
  /// Inserted before a conversation that does not begin with a system message (ChatML only).
  std::optional<std::string> default_system_message = {};
  /// The template always begins the answer, even without add_generation_prompt (early LLaMA 3 files).
  bool always_begins_answer = false;
};

/// The format that a Jinja template describes. Layout and spelling of the template do not matter. Throws, beginning
/// with `source`, on a template that is not one of the built-in formats.
ChatFormat recognize_chat_template(std::string_view chat_template, const std::string& source);

/// The same for a folder: chat_template.jinja, else `chat_template` in tokenizer_config.json.
ChatFormat load_chat_format(const ModelFolder& folder);

/// The prompt of a conversation as token ids; with `add_generation_prompt` including the beginning of the assistant's
/// answer. Equals HF `apply_chat_template(messages, tokenize=True)`, except that messages are always plain text:
/// special tokens written in them are not parsed, and LLaMA 2's textual markers (`[INST]`, `<<SYS>>`) are an error.
std::vector<int64_t> encode_chat(const Tokenizer& tokenizer, const ChatFormat& format,
                                 const std::vector<ChatMessage>& messages, bool add_generation_prompt = true);

/// The token with which the model ends its turn.
int64_t end_of_turn_id(const Tokenizer& tokenizer, const ChatFormat& format);

}  // namespace transformers
