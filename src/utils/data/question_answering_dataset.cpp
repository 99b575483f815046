// Semantics: transformers 5.23.0, examples/pytorch/question-answering (run_qa.py, utils_qa.py).
#include <ATen/ATen.h>
#include <transformers/utils/data/question_answering_dataset.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "utils/data/json_lines_file.h"
#include "utils/data/token_frame.h"
#include "utils/text/utf8.h"

namespace transformers {
namespace {

using Json = nlohmann::ordered_json;
using Ids = std::vector<int64_t>;

/// The number of bytes of the first `characters` characters; npos beyond the end.
size_t bytes_of(std::string_view text, int64_t characters) {
  size_t bytes = 0;
  for (; characters > 0; --characters) {
    if (bytes == text.size()) {
      return std::string_view::npos;
    }
    bytes += tokenization::first_character(text.substr(bytes)).length;
  }
  return bytes;
}

int64_t integer(const Json& value, const char* key, const std::string& source) {
  TORCH_CHECK(value.is_number_integer() && value.get<int64_t>() >= 0, source, ": \"", key,
              "\" must be characters from the start of the context, found ", value.dump());
  return value.get<int64_t>();
}

/// The bytes of an answer in its context, and its accepted texts.
struct Answer {
  size_t first = 0, end = 0;
  std::vector<std::string> texts{};
};

Answer answer_of_span(const Json& line, const std::string& context, const std::string& source) {
  TORCH_CHECK(line.contains("start") && line.contains("end"), source,
              ": the object must hold \"answers\", or \"start\" and \"end\"");
  const auto first = bytes_of(context, integer(line["start"], "start", source));
  const auto end = bytes_of(context, integer(line["end"], "end", source));
  TORCH_CHECK(first < end && end <= context.size(), source, ": \"start\" ", line["start"].dump(), " and \"end\" ",
              line["end"].dump(), " must be a part of the context");
  return {first, end, {context.substr(first, end - first)}};
}

Answer answer_of(const Json& line, const std::string& context, const std::string& source) {
  const auto answers = line.find("answers");
  if (answers == line.end()) {
    return answer_of_span(line, context, source);
  }
  const bool is_squad = answers->is_object() && answers->contains("text") && answers->contains("answer_start");
  TORCH_CHECK(is_squad && (*answers)["text"].is_array() && (*answers)["answer_start"].is_array() &&
                  (*answers)["text"].size() == (*answers)["answer_start"].size() && !(*answers)["text"].empty(),
              source, ": \"answers\" must hold two lists of one length, \"text\" and \"answer_start\"");
  Answer answer;
  for (const auto& text : (*answers)["text"]) {
    TORCH_CHECK(text.is_string(), source, ": the text of an answer must be a string, found ", text.type_name());
    answer.texts.push_back(text.get<std::string>());
  }
  const auto& text = answer.texts.front();
  answer.first = bytes_of(context, integer((*answers)["answer_start"][0], "answer_start", source));
  TORCH_CHECK(answer.first <= context.size() && !text.empty() && context.compare(answer.first, text.size(), text) == 0,
              source, ": the answer \"", text, "\" is not at character ", (*answers)["answer_start"][0].dump(),
              " of the context");
  answer.end = answer.first + text.size();
  return answer;
}

/// The positions of the largest values, best first.
Ids best_places(const at::Tensor& logits, int64_t count) {
  const auto places = std::get<1>(logits.topk(std::min(count, logits.size(0)))).contiguous();
  return {places.const_data_ptr<int64_t>(), places.const_data_ptr<int64_t>() + places.numel()};
}

}  // namespace

/// A line, tokenised.
struct QuestionAnsweringDataset::Text {
  std::string context{};
  Answer answer{};
  Ids lead{}, tokens{}, tail{};  // tokens before the context, of the whole context, and after it
  std::vector<std::pair<size_t, size_t>> offsets{};

  /// The first and last token of the answer among the tokens of a sample; (0, 0) if the answer is not completely in it.
  std::pair<int64_t, int64_t> positions(const Sample& sample) const {
    const auto begin = offsets.begin() + sample.first, end = begin + sample.count;
    if (begin == end || begin->first > answer.first || std::prev(end)->second < answer.end) {
      return {0, 0};
    }
    const auto after_start = std::find_if(begin, end, [&](const auto& bytes) { return bytes.first > answer.first; });
    auto last = std::prev(end);
    while (last != begin && std::prev(last)->second >= answer.end) {
      --last;
    }
    const auto leading = static_cast<int64_t>(lead.size());
    return {leading + (after_start - begin) - 1, leading + (last - begin)};
  }
};

/// A part of the context in bytes, and the score that the model gives it.
struct QuestionAnsweringDataset::Candidate {
  double score = -std::numeric_limits<double>::infinity();
  size_t first = 0, end = 0;
};

QuestionAnsweringDataset::QuestionAnsweringDataset(const std::string& path, std::shared_ptr<const Tokenizer> tokenizer,
                                                   QuestionAnsweringOptions options)
    : tokenizer_(std::move(tokenizer)), options_(options), file_(std::make_unique<JsonLinesFile>(path)) {
  TORCH_CHECK(options.max_seq_length > 0 && options.doc_stride >= 0, "max_seq_length must be positive and doc_stride ",
              "0 or more, got ", options.max_seq_length, " and ", options.doc_stride);
  for (int64_t line = 0; line < file_->size(); ++line) {
    const auto text = text_of(line);
    const auto tokens = static_cast<int64_t>(text.tokens.size());
    const auto room = options.max_seq_length - static_cast<int64_t>(text.lead.size() + text.tail.size());
    TORCH_CHECK(room >= tokens || room > options.doc_stride, file_->source(line), ": the question leaves ",
                std::max(room, int64_t{0}), " of ", options.max_seq_length,
                " tokens for the context, which must be more than the stride of ", options.doc_stride);
    for (int64_t first = 0;; first += room - options.doc_stride) {
      samples_.push_back({line, first, std::min(room, tokens - first)});
      if (first + room >= tokens) {
        break;
      }
    }
  }
}

QuestionAnsweringDataset::~QuestionAnsweringDataset() = default;

QuestionAnsweringDataset::Text QuestionAnsweringDataset::text_of(int64_t line) const {
  const auto source = file_->source(line);
  const auto object = file_->object(line);
  const auto frame = TokenFrame::of(*tokenizer_);
  Text text{.context = string_of(object, "context", source)};
  text.answer = answer_of(object, text.context, source);
  text.lead = tokenizer_->encode(string_of(object, "question", source));
  text.lead.insert(text.lead.end(), frame.before.begin(), frame.before.end());
  text.tokens = tokenizer_->encode(text.context, /*add_special_tokens=*/false);
  text.tail = frame.after;
  text.offsets = token_offsets(*tokenizer_, text.tokens, text.context, source);
  return text;
}

Batch QuestionAnsweringDataset::get(int64_t index) const {
  const auto& sample = samples_.at(static_cast<size_t>(index));
  const auto text = text_of(sample.line);
  auto ids = text.lead;
  const auto first = text.tokens.begin() + sample.first;
  ids.insert(ids.end(), first, first + sample.count);
  ids.insert(ids.end(), text.tail.begin(), text.tail.end());
  const auto [start, end] = text.positions(sample);
  return {{"input_ids", at::tensor(ids, at::kLong)},
          {"start_positions", at::scalar_tensor(start, at::kLong)},
          {"end_positions", at::scalar_tensor(end, at::kLong)}};
}

QuestionAnsweringDataset::Candidate QuestionAnsweringDataset::best_answer(const Text& text, const Sample& sample,
                                                                          const at::Tensor& starts,
                                                                          const at::Tensor& ends) const {
  const auto leading = static_cast<int64_t>(text.lead.size());
  const auto is_context = [&](int64_t place) { return place >= leading && place < leading + sample.count; };
  Candidate best;
  for (const auto start : best_places(starts, options_.n_best_size)) {
    for (const auto end : best_places(ends, options_.n_best_size)) {
      if (!is_context(start) || !is_context(end) || end < start || end - start >= options_.max_answer_length) {
        continue;
      }
      const auto score = starts[start].item<double>() + ends[end].item<double>();
      if (score > best.score) {
        const auto offset = [&](int64_t place) {
          return text.offsets[static_cast<size_t>(sample.first + place - leading)];
        };
        best = {score, offset(start).first, offset(end).second};
      }
    }
  }
  return best;
}

std::vector<std::string> QuestionAnsweringDataset::answers(const std::vector<Batch>& predictions) const {
  std::vector<std::string> answers(static_cast<size_t>(file_->size()));
  std::vector<double> scores(answers.size(), -std::numeric_limits<double>::infinity());
  size_t index = 0;
  for (const auto& batch : predictions) {
    const auto starts = batch.at("start_logits").to(at::kFloat), ends = batch.at("end_logits").to(at::kFloat);
    for (int64_t row = 0; row < starts.size(0); ++row) {
      const auto& sample = samples_.at(index++);
      const auto text = text_of(sample.line);
      const auto best = best_answer(text, sample, starts[row], ends[row]);
      const auto line = static_cast<size_t>(sample.line);
      if (best.score > scores[line]) {
        scores[line] = best.score;
        answers[line] = text.context.substr(best.first, best.end - best.first);
      }
    }
  }
  TORCH_CHECK(index == samples_.size(), "there must be logits for all ", samples_.size(), " samples, found ", index);
  return answers;
}

std::vector<std::vector<std::string>> QuestionAnsweringDataset::references() const {
  std::vector<std::vector<std::string>> references;
  for (int64_t line = 0; line < file_->size(); ++line) {
    references.push_back(text_of(line).answer.texts);
  }
  return references;
}

}  // namespace transformers
