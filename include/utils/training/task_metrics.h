#pragma once

#include <transformers/export.h>
#include <transformers/utils/data/question_answering_dataset.h>
#include <transformers/utils/training/evaluation.h>

#include <map>
#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Functions for Evaluation::compute_metrics. They need predictions with "logits" unless stated otherwise.

/// "accuracy" and "f1": that of class 1 where there are two classes, else the mean over the classes. labels: int64
/// [batch].
Metrics classification_metrics(const EvalPrediction& prediction);

/// "accuracy" over the tokens with a label. If the names of the classes are tags ("O", "B-PER"), also "precision",
/// "recall" and "f1" of whole entities, as HF's run_ner.py; else also "f1", the mean over the classes.
Metrics token_classification_metrics(const EvalPrediction& prediction, const std::map<int64_t, std::string>& id2label);

/// The names of these metrics.
std::vector<std::string> token_classification_metric_names(const std::map<int64_t, std::string>& id2label);

/// "exact_match" and "f1" of the dataset's answers, in per cent as HF's squad metric. Needs predictions with
/// "start_logits" and "end_logits".
Metrics question_answering_metrics(const EvalPrediction& prediction, const QuestionAnsweringDataset& dataset);

}  // namespace transformers
