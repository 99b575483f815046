#pragma once

/// \file
/// The room utils/data turns files into batches: datasets read and tokenise samples, collators pad and stack them, and
/// BatchLoader draws them in order. It does not know models or losses; those meet the batches in utils/training.
///
///     const auto tokenizer = load_tokenizer("llama-2-7b");
///     const auto dataset = std::make_shared<TextBlockDataset>("train.txt", *tokenizer, /*seq_length=*/512);
///     BatchLoader loader(dataset, padding_collator(/*pad_token_id=*/0), {.batch_size = 4});
///     const Batch batch = loader.next();  // input_ids, attention_mask, labels: [4, 512]

#include <ATen/core/Tensor.h>
#include <transformers/export.h>
#include <transformers/utils/tokenization/tokenizer.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace transformers {
class JsonLinesFile;
}  // namespace transformers

namespace TRANSFORMERS_API transformers {

/// Tensors by the names of HF's forward arguments: a sample has no batch dimension, a batch has one.
using Batch = std::map<std::string, at::Tensor>;

/// Gives samples by index.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;
  /// One sample, 0 <= index < size(). Called by one thread at a time, which may not be the one that made the dataset.
  virtual Batch get(int64_t index) const = 0;
};

/// The rows of tensors, which all have the same first dimension.
class TensorDataset : public Dataset {
 public:
  /// Throws when the tensors have no rows or different numbers of rows.
  explicit TensorDataset(Batch columns);
  /// The tensors of a safetensors file: input_ids int64 [samples, seq] and other arguments of forward, e.g. labels.
  /// Without labels, the ids are the labels.
  static std::shared_ptr<TensorDataset> from_file(const std::string& path);

  int64_t size() const override { return size_; }
  Batch get(int64_t index) const override;

 private:
  Batch columns_;
  int64_t size_ = 0;
};

/// A text cut into blocks of equal length for next-token training; as in HF's run_clm, the incomplete block at the end
/// is dropped. Holds the ids of the whole text, 4 bytes each; the text itself is read and tokenised in pieces if the
/// words of the tokenizer end at line breaks, as with byte-level BPE.
class TextBlockDataset : public Dataset {
 public:
  /// Throws when the file is shorter than one block.
  TextBlockDataset(const std::string& path, const Tokenizer& tokenizer, int64_t seq_length);

  int64_t size() const override { return ids_.size(0); }
  /// input_ids and labels: int64 [seq_length].
  Batch get(int64_t index) const override;

 private:
  at::Tensor ids_;  // int32 [blocks, seq_length]
};

struct JsonLinesOptions {
  /// Longer samples are truncated at the end, as by HF's tokenizers.
  int64_t max_length = 1024;
  /// Number of classes of {"text", "label"} lines; 0: the lines are texts to learn.
  int64_t num_labels = 0;
};

/// One JSON object per line: {"text"}; {"prompt", "completion"}, of which only the completion is learned; or, with
/// num_labels, {"text", "label"}. Lines are located once, and read and tokenised on access; blank lines are skipped. A
/// learned text ends with the tokenizer's end-of-sequence token, if it has one.
class JsonLinesDataset : public Dataset {
 public:
  JsonLinesDataset(const std::string& path, std::shared_ptr<const Tokenizer> tokenizer, JsonLinesOptions options);
  ~JsonLinesDataset() override;

  int64_t size() const override;
  /// input_ids int64 [tokens] and labels: int64 [tokens], −100 where nothing is learned, or the class, int64 [].
  /// Throws, naming file and line, on anything but such an object, a label out of range, or a text without tokens.
  Batch get(int64_t index) const override;

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  JsonLinesOptions options_;
  std::unique_ptr<JsonLinesFile> file_;
};

}  // namespace transformers
