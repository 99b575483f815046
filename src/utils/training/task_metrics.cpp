#include <ATen/ATen.h>
#include <transformers/utils/modeling/losses.h>
#include <transformers/utils/training/metrics.h>
#include <transformers/utils/training/task_metrics.h>

#include <algorithm>

namespace transformers {
namespace {

/// Predicted and correct classes, int64 [n] each.
struct Classes {
  std::vector<at::Tensor> predictions{}, references{};

  at::Tensor all_predictions() const { return at::cat(predictions); }
  at::Tensor all_references() const { return at::cat(references); }
};

/// Positions that have a label, with one entry for each row of a batch if `by_row` is set, else one for each batch.
Classes classes_of(const EvalPrediction& prediction, bool by_row) {
  Classes classes;
  for (size_t i = 0; i < prediction.inputs.size(); ++i) {
    const auto labels = prediction.inputs[i].at("labels").cpu();
    const auto found = prediction.predictions[i].at("logits").argmax(-1);
    for (int64_t row = 0; row < (by_row ? labels.size(0) : 1); ++row) {
      const auto of_row = by_row ? labels[row] : labels;
      const auto counted = of_row.ne(kIgnoreIndex);
      classes.predictions.push_back((by_row ? found[row] : found).masked_select(counted));
      classes.references.push_back(of_row.masked_select(counted));
    }
  }
  return classes;
}

bool are_tags(const std::map<int64_t, std::string>& id2label) {
  return std::all_of(id2label.begin(), id2label.end(), [](const auto& label) {
    const auto& name = label.second;
    return name == "O" ||
           (name.size() > 2 && name[1] == '-' && std::string_view("BIES").find(name[0]) != std::string_view::npos);
  });
}

std::vector<std::vector<std::string>> tags_of(const std::vector<at::Tensor>& rows,
                                              const std::map<int64_t, std::string>& id2label) {
  std::vector<std::vector<std::string>> tags;
  for (const auto& row : rows) {
    auto& names = tags.emplace_back();
    for (int64_t i = 0; i < row.numel(); ++i) {
      names.push_back(id2label.at(row[i].item<int64_t>()));
    }
  }
  return tags;
}

}  // namespace

Metrics classification_metrics(const EvalPrediction& prediction) {
  const auto classes = classes_of(prediction, /*by_row=*/false);
  const auto found = classes.all_predictions(), right = classes.all_references();
  const bool two = prediction.predictions.front().at("logits").size(-1) == 2;
  const auto average = two ? Average::kBinary : Average::kMacro;
  return {{"accuracy", accuracy(found, right)}, {"f1", precision_recall_f1(found, right, average).f1}};
}

Metrics token_classification_metrics(const EvalPrediction& prediction, const std::map<int64_t, std::string>& id2label) {
  const auto classes = classes_of(prediction, /*by_row=*/true);
  const auto found = classes.all_predictions(), right = classes.all_references();
  Metrics metrics{{"accuracy", accuracy(found, right)}};
  if (!are_tags(id2label)) {
    metrics["f1"] = precision_recall_f1(found, right, Average::kMacro).f1;
    return metrics;
  }
  const auto scores = entity_scores(tags_of(classes.predictions, id2label), tags_of(classes.references, id2label));
  metrics["precision"] = scores.precision;
  metrics["recall"] = scores.recall;
  metrics["f1"] = scores.f1;
  return metrics;
}

std::vector<std::string> token_classification_metric_names(const std::map<int64_t, std::string>& id2label) {
  return are_tags(id2label) ? std::vector<std::string>{"accuracy", "f1", "precision", "recall"}
                            : std::vector<std::string>{"accuracy", "f1"};
}

Metrics question_answering_metrics(const EvalPrediction& prediction, const QuestionAnsweringDataset& dataset) {
  const auto answers = dataset.answers(prediction.predictions);
  const auto references = dataset.references();
  SquadScores sum;
  for (size_t line = 0; line < answers.size(); ++line) {
    const auto scores = squad_scores(answers[line], references[line]);
    sum.exact_match += scores.exact_match;
    sum.f1 += scores.f1;
  }
  const auto lines = static_cast<double>(answers.size());
  return {{"exact_match", 100 * sum.exact_match / lines}, {"f1", 100 * sum.f1 / lines}};
}

}  // namespace transformers
