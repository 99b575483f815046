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

/// Who says it, `system`, `user` or `assistant`, and what.
struct ChatMessage {
  std::string role, content;
};

/// A way of writing a conversation that is built in. Templates are recognised, never run.
struct ChatFormat {
  enum class Layout { kChatMl, kLlama2, kLlama3 };
  Layout layout;
  /// Goes before a conversation that does not begin with a system message (ChatML only).
  std::optional<std::string> default_system_message = {};
  /// The template begins the answer whether asked or not (early LLaMA 3 files).
  bool always_begins_answer = false;
};

/// The format that a Jinja template describes. Layout and spelling of the template do not matter; a template that is
/// none of ours is an error, which begins with `source`.
ChatFormat recognize_chat_template(std::string_view chat_template, const std::string& source);

/// The same for a folder: chat_template.jinja, else `chat_template` in tokenizer_config.json.
ChatFormat load_chat_format(const ModelFolder& folder);

/// The prompt of a conversation as token ids; with `add_generation_prompt` up to where the assistant's answer begins.
/// Equals HF `apply_chat_template(messages, tokenize=True)`, except that what messages contain is always plain text:
/// special tokens written there are not parsed, and LLaMA 2's textual marks (`[INST]`, `<<SYS>>`) are an error.
std::vector<int64_t> encode_chat(const Tokenizer& tokenizer, const ChatFormat& format,
                                 const std::vector<ChatMessage>& messages, bool add_generation_prompt = true);

/// The token with which the model ends its turn.
int64_t end_of_turn_id(const Tokenizer& tokenizer, const ChatFormat& format);

}  // namespace transformers
