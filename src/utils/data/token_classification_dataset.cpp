#include <ATen/ATen.h>
#include <transformers/utils/data/token_classification_dataset.h>
#include <transformers/utils/modeling/losses.h>

#include <algorithm>

#include "utils/data/json_lines_file.h"
#include "utils/data/token_frame.h"

namespace transformers {
namespace {

using Json = nlohmann::ordered_json;
using Ids = std::vector<int64_t>;

const Json& list_of(const Json& line, const char* key, const char* other, const std::string& source) {
  const auto found = line.contains(key) ? line.find(key) : line.find(other);
  TORCH_CHECK(found != line.end() && found->is_array(), source, ": the object must hold a list \"", key, "\" or \"",
              other, "\"", found == line.end() ? ", it is missing" : std::string(", found ") + found->type_name());
  return *found;
}

int64_t label_of(const Json& value, const std::map<int64_t, std::string>& id2label, const std::string& source) {
  const auto found = std::find_if(id2label.begin(), id2label.end(), [&](const auto& label) {
    return value.is_string() ? value == label.second : value.is_number_integer() && value == label.first;
  });
  TORCH_CHECK(found != id2label.end(), source, ": a label must be one of the model's ", id2label.size(),
              " classes, by number or name, found ", value.dump());
  return found->first;
}

/// Whether the tokenizer puts the space before a word itself, as SentencePiece tokenizers do.
bool adds_space(const Tokenizer& tokenizer) {
  const auto ids = tokenizer.encode("a", /*add_special_tokens=*/false);
  return !ids.empty() && tokenizer.id_to_token(ids.front()).value_or("").starts_with("\xE2\x96\x81");  // U+2581
}

Batch sample_of(const Ids& ids, const Ids& labels) {
  return {{"input_ids", at::tensor(ids, at::kLong)}, {"labels", at::tensor(labels, at::kLong)}};
}

}  // namespace

TokenClassificationDataset::TokenClassificationDataset(const std::string& path,
                                                       std::shared_ptr<const Tokenizer> tokenizer,
                                                       TokenClassificationOptions options)
    : tokenizer_(std::move(tokenizer)), options_(std::move(options)), file_(std::make_unique<JsonLinesFile>(path)) {
  TORCH_CHECK(options_.max_length > 0, "max_length must be positive, got ", options_.max_length);
}

TokenClassificationDataset::~TokenClassificationDataset() = default;

int64_t TokenClassificationDataset::size() const { return file_->size(); }

Batch TokenClassificationDataset::get(int64_t index) const {
  const auto source = file_->source(index);
  const auto line = file_->object(index);
  const auto& words = list_of(line, "tokens", "words", source);
  const auto& tags = list_of(line, "labels", "ner_tags", source);
  TORCH_CHECK(words.size() == tags.size() && !words.empty(), source, ": there must be a label for each word, found ",
              words.size(), " words and ", tags.size(), " labels");
  const auto frame = TokenFrame::of(*tokenizer_);
  const std::string space = adds_space(*tokenizer_) ? "" : " ";
  const auto most = static_cast<size_t>(
      std::max<int64_t>(0, options_.max_length - static_cast<int64_t>(frame.before.size() + frame.after.size())));
  Ids ids, labels;
  for (size_t i = 0; i < words.size(); ++i) {
    TORCH_CHECK(words[i].is_string(), source, ": a word must be a string, found ", words[i].type_name());
    const auto label = label_of(tags[i], options_.id2label, source);
    const auto tokens = tokenizer_->encode(space + words[i].get<std::string>(), /*add_special_tokens=*/false);
    ids.insert(ids.end(), tokens.begin(), tokens.end());
    labels.resize(ids.size(), kIgnoreIndex);
    if (!tokens.empty()) {
      labels[ids.size() - tokens.size()] = label;
    }
  }
  ids.resize(std::min(ids.size(), most));
  labels.resize(ids.size());
  ids.insert(ids.begin(), frame.before.begin(), frame.before.end());
  labels.insert(labels.begin(), frame.before.size(), kIgnoreIndex);
  ids.insert(ids.end(), frame.after.begin(), frame.after.end());
  labels.resize(ids.size(), kIgnoreIndex);
  TORCH_CHECK(!ids.empty(), source, ": the words have no token");
  return sample_of(ids, labels);
}

}  // namespace transformers
