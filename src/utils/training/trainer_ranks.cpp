#include <c10/util/StringUtil.h>
#include <transformers/utils/training/trainer.h>

#include <nlohmann/json.hpp>

#include "utils/distributed/internal/agreement.h"
#include "utils/optim/internal/numbers.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

using Settings = std::map<std::string, std::string>;

std::string rates_of(const LRScheduler& scheduler) {
  std::string text;
  for (const auto rate : scheduler.get_last_lr()) {
    text += (text.empty() ? "" : ", ") + exact_text(rate);
  }
  return text;
}

std::string value_of(const Settings& settings, const std::string& name) {
  const auto found = settings.find(name);
  return found == settings.end() ? "unset" : printable(found->second);
}

/// The first setting in which a rank differs from rank 0; empty if there is none.
std::string disagreement(const std::vector<Settings>& by_rank) {
  for (size_t rank = 1; rank < by_rank.size(); ++rank) {
    auto names = by_rank[0];
    names.insert(by_rank[rank].begin(), by_rank[rank].end());
    for (const auto& [name, unused] : names) {
      const auto first = value_of(by_rank[0], name), other = value_of(by_rank[rank], name);
      if (first != other) {
        return c10::str(name, ": rank 0 has ", first, ", rank ", rank, " has ", other);
      }
    }
  }
  return {};
}

}  // namespace

/// The settings that must be equal on all ranks: those that a resumed run must share, and those that decide when ranks
/// wait for each other.
Settings Trainer::settings_of_ranks(const BatchLoader& data) const {
  auto settings = this->settings(data);
  settings["max_steps"] = std::to_string(arguments_.max_steps);
  settings["logging_steps"] = std::to_string(arguments_.logging_steps);
  settings["save_steps"] = std::to_string(arguments_.save_steps);
  settings["eval_steps"] = std::to_string(arguments_.eval_steps);
  settings["load_best_model_at_end"] = arguments_.load_best_model_at_end ? "on" : "off";
  settings["early_stopping"] = arguments_.early_stopping == nullptr ? "off" : "on";
  settings["steps done"] = std::to_string(state_.global_step);
  settings["place in the data"] = std::to_string(data.position());
  settings["order of the data"] = data.order();
  settings["learning rates"] = rates_of(scheduler_);
  return settings;
}

/// Without this check, ranks with different settings would silently train differently.
void Trainer::check_ranks(const BatchLoader& data) const {
  if (!replicas_) {
    return;
  }
  const auto& group = *arguments_.process_group;
  std::vector<Settings> by_rank;
  for (const auto& text : exchange_texts(
           group,
           nlohmann::json(settings_of_ranks(data)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace))) {
    by_rank.push_back(nlohmann::json::parse(text).get<Settings>());
  }
  const auto found = disagreement(by_rank);
  TORCH_CHECK(found.empty(), "rank ", group.rank(), " of ", group.size(), ": the ranks disagree on ", found);
}

}  // namespace transformers
