// Mirrors models/auto, transformers 5.23.0: the only place that names all families.
#include <c10/util/Exception.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/llama/modeling_llama.h>

#include "utils/json/config_reader.h"
#include "utils/json/printable.h"
#include "utils/json/regular_file.h"
#include "utils/json/strict_json.h"

namespace transformers {
namespace {

enum class Family { kGPTJ, kLlama };

/// HF's architecture names begin with the family's.
std::string_view architecture_prefix(Family family) { return family == Family::kGPTJ ? "GPTJ" : "Llama"; }

Family family_of(std::string_view text, const std::string& source) {
  const auto json = parse_strict_json(text, source);
  ConfigReader reader(json, source);
  std::string model_type;
  reader.read("model_type", model_type);
  TORCH_CHECK(!model_type.empty(), printable(source), ": key \"model_type\" is missing; known are gptj and llama");
  TORCH_CHECK(model_type == "gptj" || model_type == "llama", printable(source),
              ": model_type must be gptj or llama, got \"", printable(model_type), "\"");
  const auto family = model_type == "gptj" ? Family::kGPTJ : Family::kLlama;
  std::vector<std::string> architectures;
  reader.read("architectures", architectures);
  const auto other = family == Family::kGPTJ ? Family::kLlama : Family::kGPTJ;
  for (const auto& architecture : architectures) {
    TORCH_CHECK(!architecture.starts_with(architecture_prefix(other)), printable(source), ": model_type \"", model_type,
                "\" contradicts architectures, which holds ", printable(architecture));
  }
  return family;
}

Family family_of_folder(const std::string& folder) {
  const auto path = config_path(folder);
  return family_of(read_regular_file(path, JsonLimits{}.max_bytes + 1), path);
}

template <typename Base, typename GPTJ, typename Llama>
std::shared_ptr<Base> load(const std::string& folder, const LoadOptions& options) {
  switch (family_of_folder(folder)) {
    case Family::kGPTJ:
      return GPTJ::from_pretrained(folder, options).ptr();
    case Family::kLlama:
      return Llama::from_pretrained(folder, options).ptr();
  }
  TORCH_INTERNAL_ASSERT(false, "family without models");
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

/// Calls `with` with the auto class for an architecture's head.
template <typename With>
std::shared_ptr<PreTrainedModel> by_head(const PretrainedConfig& config, const With& with) {
  const std::string name = config.architectures.empty() ? "ForCausalLM" : config.architectures.front();
  if (name.ends_with("ForCausalLM")) {
    return with(AutoModelForCausalLM());
  }
  if (name.ends_with("ForSequenceClassification")) {
    return with(AutoModelForSequenceClassification());
  }
  if (name.ends_with("ForQuestionAnswering")) {
    return with(AutoModelForQuestionAnswering());
  }
  if (name.ends_with("ForTokenClassification")) {
    return with(AutoModelForTokenClassification());
  }
  TORCH_CHECK(name.ends_with("Model"), "architectures: no class is known by the name \"", printable(name), "\"");
  return with(AutoModel());
}

}  // namespace

std::unique_ptr<PretrainedConfig> AutoConfig::from_json(std::string_view text, const std::string& source) {
  if (family_of(text, source) == Family::kGPTJ) {
    return std::make_unique<GPTJConfig>(GPTJConfig::from_json(text, source));
  }
  return std::make_unique<LlamaConfig>(LlamaConfig::from_json(text, source));
}

std::unique_ptr<PretrainedConfig> AutoConfig::from_pretrained(const std::string& folder) {
  const auto path = config_path(folder);
  return from_json(read_regular_file(path, JsonLimits{}.max_bytes + 1), path);
}

std::shared_ptr<BaseModel> AutoModel::from_pretrained(const std::string& folder, const LoadOptions& options) {
  return load<BaseModel, GPTJModel, LlamaModel>(folder, options);
}
std::shared_ptr<BaseModel> AutoModel::from_config(const PretrainedConfig& config) {
  return build<BaseModel, GPTJModel, LlamaModel>(config);
}

std::shared_ptr<PreTrainedModel> AutoModelByArchitecture::from_pretrained(const std::string& folder,
                                                                          const LoadOptions& options) {
  return by_head(*AutoConfig::from_pretrained(folder),
                 [&](auto head) -> std::shared_ptr<PreTrainedModel> { return head.from_pretrained(folder, options); });
}
std::shared_ptr<PreTrainedModel> AutoModelByArchitecture::from_config(const PretrainedConfig& config) {
  return by_head(config, [&](auto head) -> std::shared_ptr<PreTrainedModel> { return head.from_config(config); });
}

std::shared_ptr<CausalLM> AutoModelForCausalLM::from_pretrained(const std::string& folder, const LoadOptions& options) {
  return load<CausalLM, GPTJForCausalLM, LlamaForCausalLM>(folder, options);
}
std::shared_ptr<CausalLM> AutoModelForCausalLM::from_config(const PretrainedConfig& config) {
  return build<CausalLM, GPTJForCausalLM, LlamaForCausalLM>(config);
}

std::shared_ptr<GenericForSequenceClassification> AutoModelForSequenceClassification::from_pretrained(
    const std::string& folder, const LoadOptions& options) {
  return load<GenericForSequenceClassification, GPTJForSequenceClassification, LlamaForSequenceClassification>(folder,
                                                                                                               options);
}
std::shared_ptr<GenericForSequenceClassification> AutoModelForSequenceClassification::from_config(
    const PretrainedConfig& config) {
  return build<GenericForSequenceClassification, GPTJForSequenceClassification, LlamaForSequenceClassification>(config);
}

std::shared_ptr<GenericForQuestionAnswering> AutoModelForQuestionAnswering::from_pretrained(
    const std::string& folder, const LoadOptions& options) {
  return load<GenericForQuestionAnswering, GPTJForQuestionAnswering, LlamaForQuestionAnswering>(folder, options);
}
std::shared_ptr<GenericForQuestionAnswering> AutoModelForQuestionAnswering::from_config(
    const PretrainedConfig& config) {
  return build<GenericForQuestionAnswering, GPTJForQuestionAnswering, LlamaForQuestionAnswering>(config);
}

std::shared_ptr<GenericForTokenClassification> AutoModelForTokenClassification::from_pretrained(
    const std::string& folder, const LoadOptions& options) {
  return load<GenericForTokenClassification, GPTJForTokenClassification, LlamaForTokenClassification>(folder, options);
}
std::shared_ptr<GenericForTokenClassification> AutoModelForTokenClassification::from_config(
    const PretrainedConfig& config) {
  return build<GenericForTokenClassification, GPTJForTokenClassification, LlamaForTokenClassification>(config);
}

}  // namespace transformers
