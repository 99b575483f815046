#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Metrics by the definitions of scikit-learn 1.9, seqeval 1.2.2 and SQuAD 1.1, as HF's `evaluate` computes them. Shares
// are in [0, 1]. A division by zero gives 0.

/// How the metrics of several classes are averaged: those of `pos_label` alone (binary), their mean (macro), those of
/// all decisions counted together (micro), or their mean weighted by how often each class is the reference (weighted).
enum class Average { kBinary, kMacro, kMicro, kWeighted };

struct PrecisionRecallF1 {
  double precision = 0, recall = 0, f1 = 0;
};

/// The share of predictions that equal their reference. Both int64 [n], n > 0.
double accuracy(const at::Tensor& predictions, const at::Tensor& references);

/// Both int64 [n], n > 0; the classes are those that occur in either. kBinary throws when there are more than two
/// classes, or others than pos_label and one more. scikit-learn's `precision_recall_fscore_support`.
PrecisionRecallF1 precision_recall_f1(const at::Tensor& predictions, const at::Tensor& references,
                                      Average average = Average::kBinary, int64_t pos_label = 1);

/// The share of texts that equal their reference, byte for byte.
double exact_match(const std::vector<std::string>& predictions, const std::vector<std::string>& references);

/// The normalised text that SQuAD's script compares: lower case, without ASCII punctuation and the articles a, an, the,
/// and with one space between words.
std::string normalize_answer(std::string_view answer);

struct SquadScores {
  double exact_match = 0, f1 = 0;
};

/// Compares an answer with all accepted ones and returns the best scores: 1 where the normalised texts are equal, and
/// the F1 of their words. `references` must not be empty.
SquadScores squad_scores(std::string_view prediction, const std::vector<std::string>& references);

/// An entity of a tag sequence: its type, its first and its last token.
struct Entity {
  std::string type{};
  int64_t first = 0, last = 0;

  auto operator<=>(const Entity&) const = default;
};

/// The entities of tags such as "B-PER", "I-PER", "E-PER", "S-PER", "O", by conlleval's lenient rules: an "I-" without
/// a beginning begins an entity. seqeval's `get_entities`.
std::vector<Entity> entities_of(const std::vector<std::string>& tags);

/// Scores of entities that match exactly, over all sequences together; seqeval's scores with average "micro". Both
/// arguments are sequences of tags and must have the same shape.
PrecisionRecallF1 entity_scores(const std::vector<std::vector<std::string>>& predictions,
                                const std::vector<std::vector<std::string>>& references);

}  // namespace transformers
