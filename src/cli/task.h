#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace transformers::cli {

/// The task of a model, which determines its head and the auto class that loads it.
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
/// Throws on an unknown name, with the list of names.
Task task_from_name(std::string_view name);
/// The names of all tasks, or with `trainable` only of those that can be trained.
std::vector<std::string> task_names(bool trainable);

}  // namespace transformers::cli
