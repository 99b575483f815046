// Mirrors models/auto, transformers 5.23.0: the only place that names all families.
#include <c10/util/Exception.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/io/checkpoint.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "utils/files/internal/folder_json.h"
#include "utils/files/internal/regular_file.h"
#include "utils/json/config_reader.h"
#include "utils/json/strict_json.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

enum class Family { kGPTJ, kLlama };

/// HF's architecture names begin with the family's.
std::string_view architecture_prefix(Family family) { return family == Family::kGPTJ ? "GPTJ" : "Llama"; }

Family family_of(const nlohmann::ordered_json& json, const std::string& source) {
  ConfigReader reader(json, source);
  std::string model_type;
  reader.read("model_type", model_type);
  TORCH_CHECK(!model_type.empty(), printable(source), ": key \"model_type\" is missing; known are gptj and llama");
  TORCH_CHECK(model_type == "gptj" || model_type == "llama", printable(source),
              ": model_type must be gptj or llama, got \"", printable(model_type), "\"");
  const auto family = model_type == "gptj" ? Family::kGPTJ : Family::kLlama;
  std::vector<std::string> architectures;
  reader.read_one_or_many("architectures", architectures);
  const auto other = family == Family::kGPTJ ? Family::kLlama : Family::kGPTJ;
  for (const auto& architecture : architectures) {
    TORCH_CHECK(!architecture.starts_with(architecture_prefix(other)), printable(source), ": model_type \"", model_type,
                "\" contradicts architectures, which holds ", printable(architecture));
  }
  return family;
}

Family family_of(const ModelFolder& folder) {
  return family_of(folder_json(folder, "config.json"), config_path(folder.path()));
}

template <typename Base, typename GPTJ, typename Llama>
std::shared_ptr<Base> load(const ModelFolder& folder, const LoadOptions& options) {
  std::shared_ptr<Base> model;
  folder.read_one_save([&] {
    switch (family_of(folder)) {
      case Family::kGPTJ:
        model = GPTJ::from_pretrained(folder, options).ptr();
        break;
      case Family::kLlama:
        model = Llama::from_pretrained(folder, options).ptr();
        break;
    }
  });
  return model;
}

template <typename Base, typename GPTJ, typename Llama>
std::shared_ptr<Base> build(const PretrainedConfig& config) {
  if (const auto* gptj = dynamic_cast<const GPTJConfig*>(&config)) {
    return GPTJ(*gptj).ptr();
  }
  const auto* llama = dynamic_cast<const LlamaConfig*>(&config);
  TORCH_CHECK(llama != nullptr, "no model is known for a config of model_type \"", config.model_type(), "\"");
  return Llama(*llama).ptr();
}

constexpr std::array<std::string_view, 5> kHeads{"ForCausalLM", "ForSequenceClassification", "ForQuestionAnswering",
                                                 "ForTokenClassification", "Model"};

/// The part of a known class name after the family's prefix; empty for other names.
std::string_view head_of(std::string_view architecture) {
  for (const auto family : {Family::kGPTJ, Family::kLlama}) {
    const auto prefix = architecture_prefix(family);
    const auto head = architecture.starts_with(prefix) ? architecture.substr(prefix.size()) : std::string_view();
    if (std::ranges::find(kHeads, head) != kHeads.end()) {
      return head;
    }
  }
  return {};
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
  if (family_of(parse_strict_json(text, source), source) == Family::kGPTJ) {
    return std::make_unique<GPTJConfig>(GPTJConfig::from_json(text, source));
  }
  return std::make_unique<LlamaConfig>(LlamaConfig::from_json(text, source));
}

std::unique_ptr<PretrainedConfig> AutoConfig::from_pretrained(const ModelFolder& folder) {
  std::unique_ptr<PretrainedConfig> config;
  folder.read_one_save([&] {
    if (family_of(folder) == Family::kGPTJ) {
      config = std::make_unique<GPTJConfig>(GPTJConfig::from_pretrained(folder));
    } else {
      config = std::make_unique<LlamaConfig>(LlamaConfig::from_pretrained(folder));
    }
  });
  return config;
}

std::shared_ptr<BaseModel> AutoModel::from_pretrained(const ModelFolder& folder, const LoadOptions& options) {
  return load<BaseModel, GPTJModel, LlamaModel>(folder, options);
}
std::shared_ptr<BaseModel> AutoModel::from_config(const PretrainedConfig& config) {
  return build<BaseModel, GPTJModel, LlamaModel>(config);
}

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
  return load<CausalLM, GPTJForCausalLM, LlamaForCausalLM>(folder, options);
}
std::shared_ptr<CausalLM> AutoModelForCausalLM::from_config(const PretrainedConfig& config) {
  return build<CausalLM, GPTJForCausalLM, LlamaForCausalLM>(config);
}

std::shared_ptr<GenericForSequenceClassification> AutoModelForSequenceClassification::from_pretrained(
    const ModelFolder& folder, const LoadOptions& options) {
  return load<GenericForSequenceClassification, GPTJForSequenceClassification, LlamaForSequenceClassification>(folder,
                                                                                                               options);
}
std::shared_ptr<GenericForSequenceClassification> AutoModelForSequenceClassification::from_config(
    const PretrainedConfig& config) {
  return build<GenericForSequenceClassification, GPTJForSequenceClassification, LlamaForSequenceClassification>(config);
}

std::shared_ptr<GenericForQuestionAnswering> AutoModelForQuestionAnswering::from_pretrained(
    const ModelFolder& folder, const LoadOptions& options) {
  return load<GenericForQuestionAnswering, GPTJForQuestionAnswering, LlamaForQuestionAnswering>(folder, options);
}
std::shared_ptr<GenericForQuestionAnswering> AutoModelForQuestionAnswering::from_config(
    const PretrainedConfig& config) {
  return build<GenericForQuestionAnswering, GPTJForQuestionAnswering, LlamaForQuestionAnswering>(config);
}

std::shared_ptr<GenericForTokenClassification> AutoModelForTokenClassification::from_pretrained(
    const ModelFolder& folder, const LoadOptions& options) {
  return load<GenericForTokenClassification, GPTJForTokenClassification, LlamaForTokenClassification>(folder, options);
}
std::shared_ptr<GenericForTokenClassification> AutoModelForTokenClassification::from_config(
    const PretrainedConfig& config) {
  return build<GenericForTokenClassification, GPTJForTokenClassification, LlamaForTokenClassification>(config);
}

}  // namespace transformers
