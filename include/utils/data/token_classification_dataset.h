#pragma once

#include <transformers/export.h>
#include <transformers/utils/data/dataset.h>
#include <transformers/utils/tokenization/tokenizer.h>

#include <map>
#include <memory>
#include <string>

namespace transformers {
class JsonLinesFile;
}  // namespace transformers

namespace TRANSFORMERS_API transformers {

struct TokenClassificationOptions {
  /// Longer samples are truncated at the end.
  int64_t max_length = 1024;
  /// The model's classes; the labels in the file are their numbers or names.
  std::map<int64_t, std::string> id2label{};
};

/// One JSON object per line: {"tokens" or "words": [...], "labels" or "ner_tags": [...]}, with a label for each word.
/// Words are tokenised one by one with a space before each; the first token of a word gets its label, all others −100.
/// Mirrors `tokenize_and_align_labels` of HF's run_ner.py, for tokenizers that treat spaces as part of words.
class TokenClassificationDataset : public Dataset {
 public:
  TokenClassificationDataset(const std::string& path, std::shared_ptr<const Tokenizer> tokenizer,
                             TokenClassificationOptions options);
  ~TokenClassificationDataset() override;

  int64_t size() const override;
  /// input_ids, labels: int64 [tokens]. Throws, naming file and line, on anything but such an object and on a label
  /// that is not a class.
  Batch get(int64_t index) const override;

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  TokenClassificationOptions options_;
  std::unique_ptr<JsonLinesFile> file_;
};

}  // namespace transformers
