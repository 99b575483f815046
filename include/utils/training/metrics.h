#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Figures of how good answers are, by the definitions of scikit-learn 1.9, seqeval 1.2.2 and SQuAD 1.1, as HF's
// `evaluate` gives them. Shares are in [0, 1]. What cannot be divided is 0.

/// How the figures of several classes become one: those of `pos_label` alone, their mean, those of all decisions
/// counted together, or their mean weighted by how often each class is right.
enum class Average { kBinary, kMacro, kMicro, kWeighted };

struct PrecisionRecallF1 {
  double precision = 0, recall = 0, f1 = 0;
};

/// Share of predictions that equal their reference. Both int64 [n], n > 0.
double accuracy(const at::Tensor& predictions, const at::Tensor& references);

/// Both int64 [n], n > 0; classes are those that occur in either. kBinary throws when there are more than two, or
/// others than pos_label and one more. scikit-learn's `precision_recall_fscore_support`.
PrecisionRecallF1 precision_recall_f1(const at::Tensor& predictions, const at::Tensor& references,
                                      Average average = Average::kBinary, int64_t pos_label = 1);

/// Share of texts that equal their reference, byte for byte.
double exact_match(const std::vector<std::string>& predictions, const std::vector<std::string>& references);

/// In lower case, without ASCII punctuation and the articles a, an, the, words apart by one space; what SQuAD's script
/// compares.
std::string normalize_answer(std::string_view answer);

struct SquadScores {
  double exact_match = 0, f1 = 0;
};

/// An answer against all accepted ones, the best of them: 1 where the normalised texts are equal, and the F1 of their
/// words. `references` must not be empty.
SquadScores squad_scores(std::string_view prediction, const std::vector<std::string>& references);

/// An entity of a tag sequence: what kind, its first and its last token.
struct Entity {
  std::string type{};
  int64_t first = 0, last = 0;

  auto operator<=>(const Entity&) const = default;
};

/// Of tags such as "B-PER", "I-PER", "E-PER", "S-PER", "O", by conlleval's lenient rules: an "I-" without a beginning
/// begins an entity. seqeval's `get_entities`.
std::vector<Entity> entities_of(const std::vector<std::string>& tags);

/// Of entities found whole, all sequences together; seqeval's scores with average "micro". Sequences of tags, the two
/// lists of equal shape.
PrecisionRecallF1 entity_scores(const std::vector<std::vector<std::string>>& predictions,
                                const std::vector<std::vector<std::string>>& references);

}  // namespace transformers
