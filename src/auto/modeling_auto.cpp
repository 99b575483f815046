// Mirrors models/auto, transformers 5.23.0: the only place that names all families.
#include <c10/util/Exception.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/io/checkpoint.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <tuple>
#include <type_traits>

#include "utils/files/internal/folder_json.h"
#include "utils/json/config_reader.h"
#include "utils/json/strict_json.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

// A family: the value of `model_type` in its config.json, the prefix of its class names in HF, its config and classes.
struct GPTJ {
  static constexpr std::string_view kModelType = "gptj", kPrefix = "GPTJ";
  using Config = GPTJConfig;
  using Classes = std::tuple<GPTJModel, GPTJForCausalLM, GPTJForSequenceClassification, GPTJForQuestionAnswering,
                             GPTJForTokenClassification>;
};

struct Llama {
  static constexpr std::string_view kModelType = "llama", kPrefix = "Llama";
  using Config = LlamaConfig;
  using Classes = std::tuple<LlamaModel, LlamaForCausalLM, LlamaForSequenceClassification, LlamaForQuestionAnswering,
                             LlamaForTokenClassification>;
};

using Families = std::tuple<GPTJ, Llama>;

/// Calls `visit` with each family until it returns true. Returns whether it did.
template <typename Visit>
bool any_family(const Visit& visit) {
  return std::apply([&](const auto&... family) { return (visit(family) || ...); }, Families());
}

/// The families' names, for messages.
std::string known_types() {
  std::string names;
  any_family([&](const auto& family) {
    names.append(names.empty() ? "" : ", ").append(family.kModelType);
    return false;
  });
  return names;
}

void refuse_other_architectures(ConfigReader& reader, const std::string& source, std::string_view model_type) {
  std::vector<std::string> architectures;
  reader.read_one_or_many("architectures", architectures);
  for (const auto& architecture : architectures) {
    const bool is_other = any_family([&](const auto& family) {
      return family.kModelType != model_type && architecture.starts_with(family.kPrefix);
    });
    TORCH_CHECK(!is_other, printable(source), ": model_type \"", model_type,
                "\" contradicts architectures, which holds ", printable(architecture));
  }
}

/// Calls `visit` with the family that the text of a config.json names.
template <typename Visit>
void with_family(const nlohmann::ordered_json& json, const std::string& source, const Visit& visit) {
  ConfigReader reader(json, source);
  std::string model_type;
  reader.read("model_type", model_type);
  TORCH_CHECK(!model_type.empty(), printable(source), ": key \"model_type\" is missing; known are ", known_types());
  const bool is_known = any_family([&](const auto& family) {
    const bool is_it = family.kModelType == model_type;
    if (is_it) {
      refuse_other_architectures(reader, source, model_type);
      visit(family);
    }
    return is_it;
  });
  TORCH_CHECK(is_known, printable(source), ": model_type must be one of ", known_types(), ", got \"",
              printable(model_type), "\"");
}

template <typename Visit>
void with_family(const ModelFolder& folder, const Visit& visit) {
  with_family(folder_json(folder, "config.json"), config_path(folder.path()), visit);
}

/// The class of a family that derives from `Base`.
template <typename Base, typename Family>
auto class_of(const Family&) {
  const auto pick = []<typename First, typename... Rest>(const auto& self, std::tuple<First, Rest...>*) {
    if constexpr (std::is_base_of_v<Base, typename First::Impl>) {
      return std::type_identity<First>();
    } else {
      return self(self, static_cast<std::tuple<Rest...>*>(nullptr));
    }
  };
  return pick(pick, static_cast<typename Family::Classes*>(nullptr));
}

template <typename Base>
std::shared_ptr<Base> load(const ModelFolder& folder, const LoadOptions& options) {
  std::shared_ptr<Base> model;
  folder.read_one_save([&] {
    with_family(folder, [&](const auto& family) {
      using Model = typename decltype(class_of<Base>(family))::type;
      model = Model::from_pretrained(folder, options).ptr();
    });
  });
  return model;
}

template <typename Base>
std::shared_ptr<Base> build(const PretrainedConfig& config) {
  std::shared_ptr<Base> model;
  any_family([&]<typename Family>(const Family& family) {
    if (const auto* own = dynamic_cast<const typename Family::Config*>(&config)) {
      using Model = typename decltype(class_of<Base>(family))::type;
      model = Model(*own).ptr();
    }
    return model != nullptr;
  });
  TORCH_CHECK(model != nullptr, "no model is known for a config of model_type \"", config.model_type(), "\"");
  return model;
}

constexpr std::array<std::string_view, 5> kHeads{"ForCausalLM", "ForSequenceClassification", "ForQuestionAnswering",
                                                 "ForTokenClassification", "Model"};

/// The part of a known class name after the family's prefix; empty for other names.
std::string_view head_of(std::string_view architecture) {
  std::string_view known;
  any_family([&](const auto& family) {
    const auto head =
        architecture.starts_with(family.kPrefix) ? architecture.substr(family.kPrefix.size()) : std::string_view();
    known = std::ranges::find(kHeads, head) == kHeads.end() ? std::string_view() : head;
    return !known.empty();
  });
  return known;
}

std::string first_architecture(const PretrainedConfig& config) {
  return config.architectures.empty() ? std::string() : config.architectures.front();
}

/// Calls `with` with the auto class for a head.
template <typename With>
std::shared_ptr<PreTrainedModel> by_head(std::string_view head, const With& with) {
  if (head == "ForSequenceClassification") {
    return with(AutoModelForSequenceClassification());
  }
  if (head == "ForQuestionAnswering") {
    return with(AutoModelForQuestionAnswering());
  }
  if (head == "ForTokenClassification") {
    return with(AutoModelForTokenClassification());
  }
  return head == "Model" ? with(AutoModel()) : with(AutoModelForCausalLM());
}

std::shared_ptr<PreTrainedModel> build_with_head(const PretrainedConfig& config, std::string_view head) {
  return by_head(head, [&](auto with) -> std::shared_ptr<PreTrainedModel> { return with.from_config(config); });
}

/// Whether these are the weights of a model with this head.
bool fits(PretrainedConfig& config, const Checkpoint& checkpoint, const std::string& folder, std::string_view head) {
  const auto build = [&](const PretrainedConfig& fitting) { return build_with_head(fitting, head); };
  const auto report = match_weights(*build_for(config, checkpoint, folder, build), checkpoint);
  // If the head is present, transformers ignores other heads with the usual warning. For a model without a head, there
  // must be no other weights, or a head would be lost.
  return report.missing.empty() && (head != "Model" || report.unexpected.empty());
}

}  // namespace

std::unique_ptr<PretrainedConfig> AutoConfig::from_json(std::string_view text, const std::string& source) {
  std::unique_ptr<PretrainedConfig> config;
  with_family(parse_strict_json(text, source), source, [&]<typename Family>(const Family&) {
    using Config = typename Family::Config;
    config = std::make_unique<Config>(Config::from_json(text, source));
  });
  return config;
}

std::unique_ptr<PretrainedConfig> AutoConfig::from_pretrained(const ModelFolder& folder) {
  std::unique_ptr<PretrainedConfig> config;
  folder.read_one_save([&] {
    with_family(folder, [&]<typename Family>(const Family&) {
      using Config = typename Family::Config;
      config = std::make_unique<Config>(Config::from_pretrained(folder));
    });
  });
  return config;
}

std::shared_ptr<BaseModel> AutoModel::from_pretrained(const ModelFolder& folder, const LoadOptions& options) {
  return load<BaseModel>(folder, options);
}
std::shared_ptr<BaseModel> AutoModel::from_config(const PretrainedConfig& config) { return build<BaseModel>(config); }

bool AutoModelByArchitecture::knows(const PretrainedConfig& config) {
  return !head_of(first_architecture(config)).empty();
}

std::string AutoModelByArchitecture::head_for(const PretrainedConfig& config, const Checkpoint& checkpoint,
                                              const std::string& folder) {
  const auto name = first_architecture(config);
  if (const auto known = name.empty() ? "ForCausalLM" : head_of(name); !known.empty()) {
    return std::string(known);
  }
  const auto copy = config.copy();
  for (const std::string_view head : {"ForCausalLM", "Model"}) {
    if (fits(*copy, checkpoint, folder, head)) {
      return std::string(head);
    }
  }
  TORCH_CHECK(false, config_path(folder), ": key \"architectures\": no class is known by the name \"", printable(name),
              "\", and the weights are neither those of a causal language model nor of one without a head");
}

std::shared_ptr<PreTrainedModel> AutoModelByArchitecture::from_pretrained(const ModelFolder& folder,
                                                                          const LoadOptions& options) {
  std::shared_ptr<PreTrainedModel> model;
  folder.read_one_save([&] {
    const auto config = AutoConfig::from_pretrained(folder);
    const auto head = config->architectures.empty() || knows(*config)
                          ? std::string(head_of(first_architecture(*config)))
                          : head_for(*config, *open_checkpoint(folder, *config, options), folder.path());
    model = by_head(
        head, [&](auto with) -> std::shared_ptr<PreTrainedModel> { return with.from_pretrained(folder, options); });
  });
  return model;
}
std::shared_ptr<PreTrainedModel> AutoModelByArchitecture::from_config(const PretrainedConfig& config,
                                                                      const std::string& head) {
  return build_with_head(config, head.empty() ? head_of(first_architecture(config)) : head);
}

std::shared_ptr<CausalLM> AutoModelForCausalLM::from_pretrained(const ModelFolder& folder, const LoadOptions& options) {
  return load<CausalLM>(folder, options);
}
std::shared_ptr<CausalLM> AutoModelForCausalLM::from_config(const PretrainedConfig& config) {
  return build<CausalLM>(config);
}

std::shared_ptr<GenericForSequenceClassification> AutoModelForSequenceClassification::from_pretrained(
    const ModelFolder& folder, const LoadOptions& options) {
  return load<GenericForSequenceClassification>(folder, options);
}
std::shared_ptr<GenericForSequenceClassification> AutoModelForSequenceClassification::from_config(
    const PretrainedConfig& config) {
  return build<GenericForSequenceClassification>(config);
}

std::shared_ptr<GenericForQuestionAnswering> AutoModelForQuestionAnswering::from_pretrained(
    const ModelFolder& folder, const LoadOptions& options) {
  return load<GenericForQuestionAnswering>(folder, options);
}
std::shared_ptr<GenericForQuestionAnswering> AutoModelForQuestionAnswering::from_config(
    const PretrainedConfig& config) {
  return build<GenericForQuestionAnswering>(config);
}

std::shared_ptr<GenericForTokenClassification> AutoModelForTokenClassification::from_pretrained(
    const ModelFolder& folder, const LoadOptions& options) {
  return load<GenericForTokenClassification>(folder, options);
}
std::shared_ptr<GenericForTokenClassification> AutoModelForTokenClassification::from_config(
    const PretrainedConfig& config) {
  return build<GenericForTokenClassification>(config);
}

}  // namespace transformers
