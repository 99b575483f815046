#pragma once

#include <transformers/export.h>
#include <transformers/utils/data/dataset.h>
#include <transformers/utils/tokenization/tokenizer.h>

#include <memory>
#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

class JsonLinesFile;

/// HF's arguments of run_qa.py.
struct QuestionAnsweringOptions {
  /// Tokens of question and context together; longer contexts become several overlapping samples.
  int64_t max_seq_length = 384;
  /// Tokens that two neighbours share.
  int64_t doc_stride = 128;
  /// Of an answer, when predictions are read.
  int64_t max_answer_length = 30;
  /// Best starts and ends that are looked at.
  int64_t n_best_size = 20;
};

/// One JSON object a line, as SQuAD's: {"question", "context", "answers": {"text": [...], "answer_start": [...]}}, the
/// starts in characters, or {"question", "context", "start", "end"} in characters. Question and context are tokenised
/// apart and put one after the other with the tokenizer's special tokens, as HF does with a pair; the first answer is
/// what is learned. Mirrors `prepare_train_features` and `postprocess_qa_predictions` of HF's examples, with position 0
/// for what is not in a sample.
class QuestionAnsweringDataset : public Dataset {
 public:
  /// Reads and tokenises the whole file once. Throws, naming the line, on one that is no such object, an answer that is
  /// not in its context, and a question that leaves no room.
  QuestionAnsweringDataset(const std::string& path, std::shared_ptr<const Tokenizer> tokenizer,
                           QuestionAnsweringOptions options = {});
  ~QuestionAnsweringDataset() override;

  /// Samples, of which a line with a long context has several.
  int64_t size() const override { return static_cast<int64_t>(samples_.size()); }
  /// input_ids int64 [tokens]; start_positions, end_positions: int64 [].
  Batch get(int64_t index) const override;

  /// The text a model answers each line with. predictions: batches with start_logits and end_logits, [samples, tokens],
  /// of all samples in their order.
  std::vector<std::string> answers(const std::vector<Batch>& predictions) const;
  /// The accepted answers of each line.
  std::vector<std::vector<std::string>> references() const;

 private:
  /// A window of a line's context: its first token and how many.
  struct Sample {
    int64_t line, first, count;
  };
  struct Text;
  struct Candidate;

  Text text_of(int64_t line) const;
  Candidate best_answer(const Text& text, const Sample& sample, const at::Tensor& starts, const at::Tensor& ends) const;

  std::shared_ptr<const Tokenizer> tokenizer_;
  QuestionAnsweringOptions options_;
  std::unique_ptr<JsonLinesFile> file_;
  std::vector<Sample> samples_;
};

}  // namespace transformers
