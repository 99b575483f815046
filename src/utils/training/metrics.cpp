// Definitions: scikit-learn 1.9.1 (metrics/_classification.py) and SQuAD 1.1's evaluation script.
#include <ATen/ATen.h>
#include <transformers/utils/training/metrics.h>
#include <utf8proc.h>

#include <algorithm>
#include <map>

#include "utils/text/utf8.h"

namespace transformers {
namespace {

using tokenization::append_utf8;
using tokenization::first_character;

void check_pairs(const at::Tensor& predictions, const at::Tensor& references) {
  for (const auto& tensor : {predictions, references}) {
    TORCH_CHECK(tensor.scalar_type() == at::kLong && tensor.dim() == 1 && tensor.numel() > 0,
                "predictions and references must be int64 [n], n > 0, found ", tensor.scalar_type(), " of shape ",
                tensor.sizes());
  }
  TORCH_CHECK(predictions.numel() == references.numel(), "there must be as many predictions as references, got ",
              predictions.numel(), " and ", references.numel());
}

double ratio(double part, double whole) { return whole == 0 ? 0 : part / whole; }

/// How often a class was predicted, was correct, and both.
struct Counts {
  double predicted = 0, expected = 0, matched = 0;

  PrecisionRecallF1 scores() const {
    return {ratio(matched, predicted), ratio(matched, expected), ratio(2 * matched, predicted + expected)};
  }
};

std::map<int64_t, Counts> counts_by_class(const at::Tensor& predictions, const at::Tensor& references) {
  std::map<int64_t, Counts> counts;
  const auto given = predictions.cpu().contiguous(), right = references.cpu().contiguous();
  for (int64_t i = 0; i < given.numel(); ++i) {
    const auto prediction = given.const_data_ptr<int64_t>()[i], reference = right.const_data_ptr<int64_t>()[i];
    ++counts[prediction].predicted;
    ++counts[reference].expected;
    counts[prediction].matched += prediction == reference ? 1 : 0;
  }
  return counts;
}

PrecisionRecallF1 binary(const std::map<int64_t, Counts>& counts, int64_t pos_label) {
  const auto found = counts.find(pos_label);
  TORCH_CHECK(counts.size() <= 2 && (found != counts.end() || counts.size() < 2),
              "the average of one class needs two classes with pos_label ", pos_label, " among them, found ",
              counts.size());
  return found == counts.end() ? PrecisionRecallF1() : found->second.scores();
}

/// The words of a text that is valid UTF-8, apart by one space.
std::string without_articles(std::string_view text) {
  std::string result, word;
  const auto end_word = [&] {
    if (word != "a" && word != "an" && word != "the") {
      result += word;
    } else {
      result += ' ';
    }
    word.clear();
  };
  while (!text.empty()) {
    const auto [code, length] = first_character(text);
    if (tokenization::is_word(code)) {
      word += text.substr(0, length);
    } else {
      end_word();
      result += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  end_word();
  return result;
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words(1);
  while (!text.empty()) {
    const auto [code, length] = first_character(text);
    if (!tokenization::is_whitespace(code)) {
      words.back() += text.substr(0, length);
    } else if (!words.back().empty()) {
      words.emplace_back();
    }
    text.remove_prefix(length);
  }
  if (words.back().empty()) {
    words.pop_back();
  }
  return words;
}

double word_f1(std::vector<std::string> prediction, std::vector<std::string> reference) {
  const Counts counts{static_cast<double>(prediction.size()), static_cast<double>(reference.size()), [&] {
                        std::vector<std::string> common;
                        std::sort(prediction.begin(), prediction.end());
                        std::sort(reference.begin(), reference.end());
                        std::set_intersection(prediction.begin(), prediction.end(), reference.begin(), reference.end(),
                                              std::back_inserter(common));
                        return static_cast<double>(common.size());
                      }()};
  return counts.scores().f1;
}

}  // namespace

double accuracy(const at::Tensor& predictions, const at::Tensor& references) {
  check_pairs(predictions, references);
  return predictions.eq(references).to(at::kDouble).mean().item<double>();
}

PrecisionRecallF1 precision_recall_f1(const at::Tensor& predictions, const at::Tensor& references, Average average,
                                      int64_t pos_label) {
  check_pairs(predictions, references);
  const auto counts = counts_by_class(predictions, references);
  if (average == Average::kBinary) {
    return binary(counts, pos_label);
  }
  Counts all;
  PrecisionRecallF1 mean;
  double weights = 0;
  for (const auto& [label, of_class] : counts) {
    all.predicted += of_class.predicted;
    all.expected += of_class.expected;
    all.matched += of_class.matched;
    const auto weight = average == Average::kMacro ? 1 : of_class.expected;
    const auto scores = of_class.scores();
    mean.precision += weight * scores.precision;
    mean.recall += weight * scores.recall;
    mean.f1 += weight * scores.f1;
    weights += weight;
  }
  return average == Average::kMicro
             ? all.scores()
             : PrecisionRecallF1{mean.precision / weights, mean.recall / weights, mean.f1 / weights};
}

double exact_match(const std::vector<std::string>& predictions, const std::vector<std::string>& references) {
  TORCH_CHECK(!predictions.empty() && predictions.size() == references.size(),
              "there must be as many predictions as references, and one at least, got ", predictions.size(), " and ",
              references.size());
  double matched = 0;
  for (size_t i = 0; i < predictions.size(); ++i) {
    matched += predictions[i] == references[i] ? 1 : 0;
  }
  return matched / static_cast<double>(predictions.size());
}

std::string normalize_answer(std::string_view answer) {
  constexpr std::string_view kPunctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
  const auto valid = tokenization::valid_utf8(answer);
  std::string lowered;
  for (std::string_view rest = valid; !rest.empty();) {
    const auto [code, length] = first_character(rest);
    if (length > 1 || kPunctuation.find(rest.front()) == std::string_view::npos) {
      append_utf8(lowered, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
    }
    rest.remove_prefix(length);
  }
  std::string result;
  for (const auto& word : words_of(without_articles(lowered))) {
    result += (result.empty() ? "" : " ") + word;
  }
  return result;
}

SquadScores squad_scores(std::string_view prediction, const std::vector<std::string>& references) {
  TORCH_CHECK(!references.empty(), "an answer needs an accepted one to compare with");
  const auto normalized = normalize_answer(prediction);
  SquadScores best;
  for (const auto& reference : references) {
    const auto expected = normalize_answer(reference);
    best.exact_match = std::max(best.exact_match, normalized == expected ? 1.0 : 0.0);
    best.f1 = std::max(best.f1, word_f1(words_of(normalized), words_of(expected)));
  }
  return best;
}

}  // namespace transformers
