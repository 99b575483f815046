// Mirrors check_target_module_exists and the code around it (tuners/tuners_utils.py, utils/other.py, peft 0.21.2).
// Deviations: layers_pattern is taken literally, a layer's number may be the second segment of a name, and if none of
// the modules to save exists, that is an error.
#include "utils/peft/lora_targets.h"

#include <transformers/utils/modeling/pretrained_model.h>

#include <algorithm>
#include <set>

#include "utils/text/pattern.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

using tokenization::regex_pattern;

constexpr const char* kAllLinear = "all-linear";

bool ends_with_segments(const std::string& name, const std::string& end) {
  return name == end || name.ends_with("." + end);
}

bool holds_segments(const std::string& name, const std::string& part) {
  return ("." + name + ".").find("." + part + ".") != std::string::npos;
}

/// Whether a regular expression matches a whole name.
class FullMatch {
 public:
  FullMatch(const std::string& regex, const std::string& field)
      : pattern_(regex_pattern("\\A(?:" + regex + ")\\z", field)) {}

  bool operator()(const std::string& name) const {
    const auto spans = pattern_(name);
    return spans.size() == 1 && spans.front().is_match;
  }

 private:
  tokenization::Pattern pattern_;
};

using NameTest = std::function<bool(const std::string&)>;

NameTest name_test(const ModuleSelection& selection, const std::string& field) {
  if (!selection.regex.empty()) {
    return FullMatch(selection.regex, field);
  }
  return [names = selection.names](const std::string& name) {
    return std::any_of(names.begin(), names.end(), [&](const auto& end) { return ends_with_segments(name, end); });
  };
}

/// The number at the front of `text`, if a dot follows it.
std::optional<int64_t> leading_number(std::string_view text) {
  const auto digits = text.find_first_not_of("0123456789");
  if (digits == 0 || digits == std::string_view::npos || text[digits] != '.' || digits > 9) {
    return std::nullopt;
  }
  return std::stoll(std::string(text.substr(0, digits)));
}

/// The number of the layer that a module is in: the first segment that is a number and follows a name in `patterns`.
std::optional<int64_t> layer_of(const std::string& name, const std::vector<std::string>& patterns) {
  for (auto dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
    const auto before = name.substr(0, dot);
    const bool fits = patterns.empty() || std::any_of(patterns.begin(), patterns.end(), [&](const auto& pattern) {
                        return ends_with_segments(before, pattern);
                      });
    if (const auto number = leading_number(std::string_view(name).substr(dot + 1)); fits && number) {
      return number;
    }
  }
  return std::nullopt;
}

bool in_layers(const std::string& name, const LoraConfig& config) {
  if (config.layers_to_transform.empty() ||
      std::count(config.target_modules.names.begin(), config.target_modules.names.end(), name) > 0) {
    return true;  // a module listed by its complete name is selected in any layer
  }
  const auto layer = layer_of(name, config.layers_pattern);
  const auto& wanted = config.layers_to_transform;
  return layer && std::find(wanted.begin(), wanted.end(), *layer) != wanted.end();
}

/// The value of the first pattern whose match ends the name.
template <typename Value>
Value pattern_value(const std::vector<std::pair<std::string, Value>>& patterns, const std::string& name,
                    const std::string& field, Value otherwise) {
  for (const auto& [regex, value] : patterns) {
    if (FullMatch("(?:.*\\.)?(?:" + regex + ")", field)(name)) {
      return value;
    }
  }
  return otherwise;
}

/// Every Linear except the output layer.
NameTest all_linear_test(torch::nn::Module& model) {
  std::set<std::string> names;
  auto* pretrained = dynamic_cast<PreTrainedModel*>(&model);
  const auto output = pretrained == nullptr ? Linear(nullptr) : pretrained->get_output_embeddings();
  const torch::nn::Module* left_out = output.is_empty() ? nullptr : output.get();
  for (const auto& item : model.named_modules("", /*include_self=*/false)) {
    const auto* linear = dynamic_cast<const LinearImpl*>(item.value().get());
    if (linear != nullptr && linear != left_out) {
      names.insert(item.key());
    }
  }
  return [names](const std::string& name) { return names.contains(name); };
}

std::vector<std::string> task_heads(const LoraConfig& config) {
  const auto task = config.task_type.value_or("");
  if (task == "SEQ_CLS" || task == "TOKEN_CLS") {
    return {"classifier", "score"};
  }
  return task == "QUESTION_ANS" ? std::vector<std::string>{"qa_outputs"} : std::vector<std::string>{};
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::vector<std::string> saved_parameters(const torch::nn::Module& model, const LoraConfig& config) {
  const auto& wanted = config.modules_to_save;
  std::set<std::string> parameters;
  for (const auto& item : model.named_modules("", /*include_self=*/false)) {
    if (std::any_of(wanted.begin(), wanted.end(), [&](const auto& end) { return item.key().ends_with(end); })) {
      for (const auto& parameter : item.value()->named_parameters()) {
        parameters.insert(item.key() + "." + parameter.key());
      }
    }
  }
  const auto heads = task_heads(config);
  const auto named = std::find_if(wanted.begin(), wanted.end(), [&](const auto& n) { return !contains(heads, n); });
  TORCH_CHECK(!parameters.empty() || named == wanted.end(), "modules_to_save names \"", printable(*named),
              "\", but no module's name ends in that or another of its names");
  return {parameters.begin(), parameters.end()};
}

}  // namespace

LoraConfig resolved(LoraConfig config, const torch::nn::Module& model) {
  if (config.target_modules.empty()) {
    TORCH_CHECK(dynamic_cast<const PreTrainedModel*>(&model) != nullptr,
                "target_modules must name modules: there is no default for this model");
    config.target_modules.names = {"q_proj", "v_proj"};
  }
  for (const auto& head : task_heads(config)) {
    if (!contains(config.modules_to_save, head)) {
      config.modules_to_save.push_back(head);
    }
  }
  return config;
}

AdapterPlan plan_adapter(torch::nn::Module& model, const LoraConfig& config) {
  const bool all_linear = config.target_modules.regex == kAllLinear;
  const auto is_target = all_linear ? all_linear_test(model) : name_test(config.target_modules, "target_modules");
  const auto is_excluded = name_test(config.exclude_modules, "exclude_modules");
  AdapterPlan plan{.saved_parameters = saved_parameters(model, config)};
  std::set<const torch::nn::Module*> seen;
  for (const auto& item : model.named_modules("", /*include_self=*/false)) {
    const auto& name = item.key();
    const auto& saved = config.modules_to_save;
    const bool is_saved =
        std::any_of(saved.begin(), saved.end(), [&](const auto& part) { return holds_segments(name, part); });
    if (is_saved || is_excluded(name) || !is_target(name) || !in_layers(name, config) ||
        !seen.insert(item.value().get()).second) {
      continue;
    }
    auto linear = std::dynamic_pointer_cast<LinearImpl>(item.value());
    TORCH_CHECK(linear != nullptr, "target_modules chooses \"", name, "\", but an adapter goes beside a Linear only");
    plan.targets.push_back({name, std::move(linear), pattern_value(config.rank_pattern, name, "rank_pattern", config.r),
                            pattern_value(config.alpha_pattern, name, "alpha_pattern", config.lora_alpha)});
  }
  TORCH_CHECK(!plan.targets.empty(),
              "target_modules, exclude_modules and layers_to_transform choose no module of the "
              "model");
  return plan;
}

}  // namespace transformers
