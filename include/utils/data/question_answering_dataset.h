#pragma once

#include <transformers/export.h>
#include <transformers/utils/data/dataset.h>
#include <transformers/utils/tokenization/tokenizer.h>

#include <memory>
#include <string>
#include <vector>

namespace transformers {
class JsonLinesFile;
}  // namespace transformers

namespace TRANSFORMERS_API transformers {

/// HF's arguments of run_qa.py.
struct QuestionAnsweringOptions {
  /// Number of tokens of question and context together; longer contexts become several overlapping samples.
  int64_t max_seq_length = 384;
  /// Number of tokens that two neighbouring samples share.
  int64_t doc_stride = 128;
  /// Longest answer in tokens, when predictions are decoded.
  int64_t max_answer_length = 30;
  /// Number of best starts and ends that are considered.
  int64_t n_best_size = 20;
};

/// One JSON object per line, as in SQuAD: {"question", "context", "answers": {"text": [...], "answer_start": [...]}},
/// with starts in characters, or {"question", "context", "start", "end"}, also in characters. Question and context are
/// tokenised separately and concatenated with the tokenizer's special tokens, as HF does with a pair; the first answer
/// is learned. Mirrors `prepare_train_features` and `postprocess_qa_predictions` of HF's examples, with position 0 for
/// answers that are not in a sample.
class QuestionAnsweringDataset : public Dataset {
 public:
  /// Reads and tokenises the whole file once. Throws, naming the line, on anything but such an object, an answer that
  /// is not in its context, and a question that leaves no room for the context.
  QuestionAnsweringDataset(const std::string& path, std::shared_ptr<const Tokenizer> tokenizer,
                           QuestionAnsweringOptions options = {});
  ~QuestionAnsweringDataset() override;

  /// Number of samples; a line with a long context has several.
  int64_t size() const override { return static_cast<int64_t>(samples_.size()); }
  /// input_ids int64 [tokens]; start_positions, end_positions: int64 [].
  Batch get(int64_t index) const override;

  /// The answer of a model to each line. predictions: batches with start_logits and end_logits, [samples, tokens], for
  /// all samples in order.
  std::vector<std::string> answers(const std::vector<Batch>& predictions) const;
  /// The accepted answers of each line.
  std::vector<std::vector<std::string>> references() const;

 private:
  /// A window of a line's context: its first token and the number of tokens.
  struct Sample {
    int64_t line, first, count;
  };
  struct TRANSFORMERS_PRIVATE Text;
  struct TRANSFORMERS_PRIVATE Candidate;

  Text text_of(int64_t line) const;
  Candidate best_answer(const Text& text, const Sample& sample, const at::Tensor& starts, const at::Tensor& ends) const;

  std::shared_ptr<const Tokenizer> tokenizer_;
  QuestionAnsweringOptions options_;
  std::unique_ptr<JsonLinesFile> file_;
  std::vector<Sample> samples_;
};

}  // namespace transformers
