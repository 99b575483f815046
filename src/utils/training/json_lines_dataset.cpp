#include <ATen/ATen.h>
#include <transformers/utils/modeling/losses.h>
#include <transformers/utils/training/dataset.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "utils/json/regular_file.h"
#include "utils/json/strict_json.h"

namespace transformers {
namespace {

using Json = nlohmann::ordered_json;
using Ids = std::vector<int64_t>;

constexpr size_t kLongestLine = size_t{64} << 20;

std::string text_of(const Json& line, const char* key, const std::string& source) {
  const auto found = line.find(key);
  TORCH_CHECK(found != line.end() && found->is_string(), source, ": the object must hold a string \"", key, "\"",
              found == line.end() ? ", it is missing" : std::string(", found ") + found->type_name());
  return found->get<std::string>();
}

void append_end(Ids& ids, const Tokenizer& tokenizer) {
  if (const auto eos = tokenizer.special_token_ids().eos; eos && (ids.empty() || ids.back() != *eos)) {
    ids.push_back(*eos);
  }
}

at::Tensor truncated(Ids ids, int64_t max_length) {
  ids.resize(std::min(ids.size(), static_cast<size_t>(max_length)));
  return at::tensor(ids, at::kLong);
}

Batch text_sample(const std::string& text, const Tokenizer& tokenizer, int64_t max_length) {
  auto ids = tokenizer.encode(text);
  append_end(ids, tokenizer);
  const auto tensor = truncated(std::move(ids), max_length);
  return {{"input_ids", tensor}, {"labels", tensor}};
}

/// The two are tokenised apart, so that where the completion begins does not hang on merges across the border.
Batch completion_sample(const std::string& prompt, const std::string& completion, const Tokenizer& tokenizer,
                        int64_t max_length) {
  auto ids = tokenizer.encode(prompt);
  Ids labels(ids.size(), kIgnoreIndex);
  auto learned = tokenizer.encode(completion, /*add_special_tokens=*/false);
  append_end(learned, tokenizer);
  ids.insert(ids.end(), learned.begin(), learned.end());
  labels.insert(labels.end(), learned.begin(), learned.end());
  return {{"input_ids", truncated(std::move(ids), max_length)}, {"labels", truncated(std::move(labels), max_length)}};
}

Batch labelled_sample(const Json& line, const Tokenizer& tokenizer, const JsonLinesOptions& options,
                      const std::string& source) {
  const auto label = line.find("label");
  TORCH_CHECK(label != line.end() && label->is_number_integer() && label->get<int64_t>() >= 0 &&
                  label->get<int64_t>() < options.num_labels,
              source, ": \"label\" must be an integer from 0 to ", options.num_labels - 1, ", ",
              label == line.end() ? "it is missing" : "found " + label->dump());
  auto ids = tokenizer.encode(text_of(line, "text", source));
  return {{"input_ids", truncated(std::move(ids), options.max_length)},
          {"labels", at::scalar_tensor(label->get<int64_t>(), at::kLong)}};
}

}  // namespace

JsonLinesDataset::JsonLinesDataset(const std::string& path, std::shared_ptr<const Tokenizer> tokenizer,
                                   JsonLinesOptions options)
    : path_(path), tokenizer_(std::move(tokenizer)), options_(options), file_(std::make_unique<RegularFile>(path)) {
  TORCH_CHECK(options.max_length > 0, "max_length must be positive, got ", options.max_length);
  find_lines();
  TORCH_CHECK(!lines_.empty(), path, ": the file holds no sample");
}

void JsonLinesDataset::find_lines() {
  constexpr size_t kPiece = size_t{1} << 20;
  size_t begin = 0, number = 1;
  bool blank = true;
  const auto end_line = [&](size_t end) {
    TORCH_CHECK(end - begin <= kLongestLine, path_, " line ", number, ": a line may have ", kLongestLine,
                " bytes, this one has ", end - begin);
    if (!blank) {
      lines_.push_back({begin, end - begin, number});
    }
    begin = end + 1;
    ++number;
    blank = true;
  };
  const auto size = file_->size();
  for (size_t offset = 0; offset < size; offset += kPiece) {
    const auto piece = file_->read(offset, std::min(kPiece, size - offset));
    for (size_t i = 0; i < piece.size(); ++i) {
      if (piece[i] == '\n') {
        end_line(offset + i);
      } else {
        blank = blank && (piece[i] == ' ' || piece[i] == '\t' || piece[i] == '\r');
      }
    }
  }
  end_line(size);
}

JsonLinesDataset::~JsonLinesDataset() = default;

Batch JsonLinesDataset::get(int64_t index) const {
  const auto& place = lines_.at(static_cast<size_t>(index));
  const auto source = path_ + " line " + std::to_string(place.number);
  const auto line =
      parse_strict_json(file_->read(place.begin, place.size), source, {.max_bytes = kLongestLine, .max_depth = 64});
  TORCH_CHECK(line.is_object(), source, ": expected a JSON object, found ", line.type_name());
  auto sample = options_.num_labels > 0 ? labelled_sample(line, *tokenizer_, options_, source)
                : line.contains("prompt")
                    ? completion_sample(text_of(line, "prompt", source), text_of(line, "completion", source),
                                        *tokenizer_, options_.max_length)
                    : text_sample(text_of(line, "text", source), *tokenizer_, options_.max_length);
  TORCH_CHECK(sample.at("input_ids").numel() > 0, source, ": the text has no token");
  return sample;
}

}  // namespace transformers
