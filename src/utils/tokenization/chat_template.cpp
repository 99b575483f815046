#include <c10/util/Exception.h>
#include <transformers/utils/tokenization/chat_format.h>

#include "utils/text/printable.h"
#include "utils/tokenization/jinja_text.h"

namespace transformers {
namespace {

using tokenization::canonical_template;
using Layout = ChatFormat::Layout;

constexpr const char* kAskDefined =
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}";

constexpr const char* kChatMlLoop = "{% for message in messages %}";
/// SmolLM2's template; it is inside the loop, and the text between the two halves is the message.
constexpr const char* kChatMlDefaultBegin =
    "{% if loop.first and messages[0].role != 'system' %}{{ '<|im_start|>system\n";
constexpr const char* kChatMlDefaultEnd = "<|im_end|>\n' }}{% endif %}";
constexpr const char* kChatMlMessages =
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

constexpr const char* kLlama3Messages =
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content | trim + "
    "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}";
constexpr const char* kLlama3Answer = "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}";

constexpr const char* kLlama2Begin =
    "{% if messages[0].role == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0].content %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message.content %}"
    "{% else %}{% set content = message.content %}{% endif %}"
    "{% if message.role == 'user' %}{{ bos_token + '[INST] ' + content | trim + ' [/INST]' }}";
/// A branch that some files have and that is not reached when roles alternate.
constexpr const char* kLlama2System =
    "{% elif message.role == 'system' %}{{ '<<SYS>>\n' + content | trim + '\n<</SYS>>\n\n' }}";
constexpr const char* kLlama2End =
    "{% elif message.role == 'assistant' %}{{ ' ' + content | trim + ' ' + eos_token }}{% endif %}{% endfor %}";

/// The parts before and after the message are not valid templates by themselves, because the message is inside a
/// string.
std::optional<std::string> default_system_message(const std::string& text) {
  const auto whole =
      canonical_template(std::string(kChatMlLoop) + kChatMlDefaultBegin + "@" + kChatMlDefaultEnd + kChatMlMessages);
  const auto cut = whole.find('@');
  const auto begin = whole.substr(0, cut);
  const auto end = whole.substr(cut + 1);
  if (text.size() < begin.size() + end.size() || !text.starts_with(begin) || !text.ends_with(end)) {
    return std::nullopt;
  }
  auto message = text.substr(begin.size(), text.size() - begin.size() - end.size());
  return message.find(tokenization::kQuote) == std::string::npos ? std::optional(std::move(message)) : std::nullopt;
}

std::optional<ChatFormat> recognized(std::string text) {
  const auto ask = canonical_template(kAskDefined);
  if (text.starts_with(ask)) {
    text.erase(0, ask.size());
  }
  const auto is = [&](const std::string& known) { return text == canonical_template(known); };
  if (is(std::string(kChatMlLoop) + kChatMlMessages)) {
    return ChatFormat{.layout = Layout::kChatMl};
  }
  if (auto message = default_system_message(text)) {
    return ChatFormat{.layout = Layout::kChatMl, .default_system_message = std::move(message)};
  }
  const std::string llama3 = kLlama3Messages;
  if (is(llama3 + "{% if add_generation_prompt %}" + kLlama3Answer + "{% endif %}") || is(llama3 + kLlama3Answer)) {
    return ChatFormat{.layout = Layout::kLlama3, .always_begins_answer = is(llama3 + kLlama3Answer)};
  }
  if (is(std::string(kLlama2Begin) + kLlama2End) || is(std::string(kLlama2Begin) + kLlama2System + kLlama2End)) {
    return ChatFormat{.layout = Layout::kLlama2};
  }
  return std::nullopt;
}

}  // namespace

ChatFormat recognize_chat_template(std::string_view chat_template, const std::string& source) {
  auto format = recognized(canonical_template(chat_template));
  TORCH_CHECK(format, printable(source),
              ": the chat template is none of ChatML, LLaMA 2 and LLaMA 3: ", printable(chat_template));
  return *format;
}

}  // namespace transformers
