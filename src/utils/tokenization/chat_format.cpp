// The built-in chat formats (ChatML, LLaMA 2, LLaMA 3) as prompts of token ids and text parts. Jinja templates are
// never run: chat_template.cpp recognises the ones that have a format here.
#include <c10/util/Exception.h>
#include <transformers/utils/tokenization/chat_format.h>

#include <algorithm>
#include <utility>

#include "utils/text/printable.h"
#include "utils/text/utf8.h"
#include "utils/tokenization/tokenizer_config.h"

namespace transformers {
namespace {

using Layout = ChatFormat::Layout;

/// White space as Python's str.strip() sees it.
bool is_stripped(char32_t code) { return tokenization::is_whitespace(code) || (code >= 0x1C && code <= 0x1F); }

std::string stripped(const std::string& text) {
  const auto valid = tokenization::valid_utf8(text);
  std::string_view rest = valid;
  while (!rest.empty() && is_stripped(tokenization::first_character(rest).code)) {
    rest.remove_prefix(tokenization::first_character(rest).length);
  }
  while (!rest.empty() && is_stripped(tokenization::last_character(rest).code)) {
    rest.remove_suffix(tokenization::last_character(rest).length);
  }
  return std::string(rest);
}

/// A token that marks the turns. It need not be flagged as special, but the same characters in a message must remain
/// text.
int64_t special_token(const Tokenizer& tokenizer, const std::string& name) {
  const auto id = tokenizer.token_to_id(name);
  TORCH_CHECK(id, "the chat format needs the special token ", name, ", which the tokenizer does not have");
  const auto as_text = tokenizer.encode_parts({*id, name});
  TORCH_CHECK(std::ranges::count(as_text, *id) == 1, "the chat format needs the special token ", name,
              ", which the tokenizer also makes of the same characters in a message");
  return *id;
}

int64_t bos_token(const Tokenizer& tokenizer) {
  const auto id = tokenizer.special_token_ids().bos;
  TORCH_CHECK(id, "the chat format needs a bos_token, which the tokenizer does not have");
  return *id;
}

int64_t eos_token(const Tokenizer& tokenizer) {
  const auto id = tokenizer.special_token_ids().eos;
  TORCH_CHECK(id, "the chat format needs an eos_token, which the tokenizer does not have");
  return *id;
}

/// Collects the parts of a prompt. Adjacent texts are joined, since a word may reach across them.
class PromptBuilder {
 public:
  PromptBuilder& token(int64_t id) {
    parts_.emplace_back(id);
    return *this;
  }

  PromptBuilder& text(const std::string& text) {
    auto* last = parts_.empty() ? nullptr : std::get_if<std::string>(&parts_.back());
    if (last != nullptr) {
      *last += text;
    } else {
      parts_.emplace_back(text);
    }
    return *this;
  }

  const std::vector<PromptPart>& parts() const { return parts_; }

 private:
  std::vector<PromptPart> parts_;
};

void check_messages(const std::vector<ChatMessage>& messages) {
  TORCH_CHECK(!messages.empty(), "a conversation must hold at least one message");
  for (const auto& message : messages) {
    TORCH_CHECK(message.role == "system" || message.role == "user" || message.role == "assistant",
                "the role of a message must be system, user or assistant (got ", printable(message.role), ")");
  }
}

PromptBuilder chat_ml(const Tokenizer& tokenizer, const ChatFormat& format, const std::vector<ChatMessage>& messages,
                      bool begin_answer) {
  const auto begin = special_token(tokenizer, "<|im_start|>");
  const auto end = special_token(tokenizer, "<|im_end|>");
  PromptBuilder prompt;
  const auto add = [&](const std::string& role, const std::string& content) {
    prompt.token(begin).text(role + "\n" + content).token(end).text("\n");
  };
  if (format.default_system_message && messages.front().role != "system") {
    add("system", *format.default_system_message);
  }
  for (const auto& message : messages) {
    add(message.role, message.content);
  }
  if (begin_answer) {
    prompt.token(begin).text("assistant\n");
  }
  return prompt;
}

PromptBuilder llama3(const Tokenizer& tokenizer, const std::vector<ChatMessage>& messages, bool begin_answer) {
  const auto begin_header = special_token(tokenizer, "<|start_header_id|>");
  const auto end_header = special_token(tokenizer, "<|end_header_id|>");
  const auto end_of_turn = special_token(tokenizer, "<|eot_id|>");
  PromptBuilder prompt;
  prompt.token(bos_token(tokenizer));
  const auto header = [&](const std::string& role) -> PromptBuilder& {
    return prompt.token(begin_header).text(role).token(end_header).text("\n\n");
  };
  for (const auto& message : messages) {
    header(message.role).text(stripped(message.content)).token(end_of_turn);
  }
  if (begin_answer) {
    header("assistant");
  }
  return prompt;
}

/// The marks of LLaMA 2 are plain text, so a message that contains one could pass for another turn; Meta's own program
/// refuses such messages too.
void refuse_llama2_marks(const std::vector<ChatMessage>& messages) {
  for (const auto& message : messages) {
    for (const auto* mark : {"[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"}) {
      TORCH_CHECK(message.content.find(mark) == std::string::npos,
                  "a message in LLaMA 2's chat format must not contain ", mark);
    }
  }
}

PromptBuilder llama2(const Tokenizer& tokenizer, const std::vector<ChatMessage>& messages) {
  refuse_llama2_marks(messages);
  const bool has_system = messages.front().role == "system";
  std::string before_first = has_system ? "<<SYS>>\n" + messages.front().content + "\n<</SYS>>\n\n" : std::string();
  PromptBuilder prompt;
  for (size_t i = has_system; i < messages.size(); ++i) {
    const bool users_turn = (i - has_system) % 2 == 0;
    TORCH_CHECK(messages[i].role == (users_turn ? "user" : "assistant"),
                "in LLaMA 2's chat format roles must alternate user, assistant, user, ... (message ", i, " is by ",
                messages[i].role, ")");
    if (users_turn) {
      const auto content = stripped(std::exchange(before_first, {}) + messages[i].content);
      prompt.token(bos_token(tokenizer)).text("[INST] " + content + " [/INST]");
    } else {
      prompt.text(" " + stripped(messages[i].content) + " ").token(eos_token(tokenizer));
    }
  }
  return prompt;
}

}  // namespace

ChatFormat load_chat_format(const ModelFolder& folder) {
  const auto config = tokenization::read_tokenizer_config(folder);
  TORCH_CHECK(config.chat_template, printable(config.path), ": has no chat_template");
  return recognize_chat_template(*config.chat_template, config.path);
}

std::vector<int64_t> encode_chat(const Tokenizer& tokenizer, const ChatFormat& format,
                                 const std::vector<ChatMessage>& messages, bool add_generation_prompt) {
  check_messages(messages);
  const bool begin_answer = add_generation_prompt || format.always_begins_answer;
  switch (format.layout) {
    case Layout::kChatMl:
      return tokenizer.encode_parts(chat_ml(tokenizer, format, messages, begin_answer).parts());
    case Layout::kLlama3:
      return tokenizer.encode_parts(llama3(tokenizer, messages, begin_answer).parts());
    case Layout::kLlama2:
      return tokenizer.encode_parts(llama2(tokenizer, messages).parts());
  }
  TORCH_CHECK(false, "unknown chat layout ", static_cast<int>(format.layout));
}

int64_t end_of_turn_id(const Tokenizer& tokenizer, const ChatFormat& format) {
  switch (format.layout) {
    case Layout::kChatMl:
      return special_token(tokenizer, "<|im_end|>");
    case Layout::kLlama3:
      return special_token(tokenizer, "<|eot_id|>");
    case Layout::kLlama2:
      return eos_token(tokenizer);
  }
  TORCH_CHECK(false, "unknown chat layout ", static_cast<int>(format.layout));
}

}  // namespace transformers
