#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace transformers::cli {

/// What a model is asked for: which head it has, and so which of HF's Auto classes loads it.
enum class Task { kCausalLM, kBase, kSequenceClassification, kQuestionAnswering, kTokenClassification };

struct TaskKind {
  Task task;
  std::string_view name;       // of --task
  std::string_view peft_type;  // `task_type` of an adapter's config; empty: cannot be trained
};

inline constexpr std::array kTasks{
    TaskKind{Task::kCausalLM, "causal-lm", "CAUSAL_LM"},
    TaskKind{Task::kBase, "base", ""},
    TaskKind{Task::kSequenceClassification, "sequence-classification", "SEQ_CLS"},
    TaskKind{Task::kQuestionAnswering, "question-answering", "QUESTION_ANS"},
    TaskKind{Task::kTokenClassification, "token-classification", "TOKEN_CLS"},
};

const TaskKind& kind_of(Task task);
/// Throws with the list of names on an unknown one.
Task task_from_name(std::string_view name);
/// The names of the tasks; trainable: of those that can be trained.
std::vector<std::string> task_names(bool trainable);

}  // namespace transformers::cli
