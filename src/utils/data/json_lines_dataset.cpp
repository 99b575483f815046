#include <ATen/ATen.h>
#include <transformers/utils/data/dataset.h>
#include <transformers/utils/modeling/losses.h>

#include <algorithm>

#include "utils/data/json_lines_file.h"

namespace transformers {
namespace {

using Json = nlohmann::ordered_json;
using Ids = std::vector<int64_t>;

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

/// Prompt and completion are tokenised separately, so that the start of the completion does not depend on merges across
/// the border.
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
  auto ids = tokenizer.encode(string_of(line, "text", source));
  return {{"input_ids", truncated(std::move(ids), options.max_length)},
          {"labels", at::scalar_tensor(label->get<int64_t>(), at::kLong)}};
}

}  // namespace

JsonLinesDataset::JsonLinesDataset(const std::string& path, std::shared_ptr<const Tokenizer> tokenizer,
                                   JsonLinesOptions options)
    : tokenizer_(std::move(tokenizer)), options_(options), file_(std::make_unique<JsonLinesFile>(path)) {
  TORCH_CHECK(options.max_length > 0, "max_length must be positive, got ", options.max_length);
}

JsonLinesDataset::~JsonLinesDataset() = default;

int64_t JsonLinesDataset::size() const { return file_->size(); }

Batch JsonLinesDataset::get(int64_t index) const {
  const auto source = file_->source(index);
  const auto line = file_->object(index);
  auto sample = options_.num_labels > 0 ? labelled_sample(line, *tokenizer_, options_, source)
                : line.contains("prompt")
                    ? completion_sample(string_of(line, "prompt", source), string_of(line, "completion", source),
                                        *tokenizer_, options_.max_length)
                    : text_sample(string_of(line, "text", source), *tokenizer_, options_.max_length);
  TORCH_CHECK(sample.at("input_ids").numel() > 0, source, ": the text has no token");
  return sample;
}

}  // namespace transformers
