#include "cli/task.h"

#include <c10/util/Exception.h>

#include <algorithm>

namespace transformers::cli {

const TaskKind& kind_of(Task task) { return *std::ranges::find(kTasks, task, &TaskKind::task); }

Task task_from_name(std::string_view name) {
  const auto* kind = std::ranges::find(kTasks, name, &TaskKind::name);
  TORCH_CHECK(kind != kTasks.end(), "there is no task ", name);
  return kind->task;
}

std::vector<std::string> task_names(bool trainable) {
  std::vector<std::string> names;
  for (const auto& kind : kTasks) {
    if (!trainable || !kind.peft_type.empty()) {
      names.emplace_back(kind.name);
    }
  }
  return names;
}

}  // namespace transformers::cli
