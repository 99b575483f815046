#pragma once

/// \file
/// Models of any family: reads `model_type` in config.json and builds or loads the class that belongs to it. This is
/// the only room that knows all families; programs that need one family use that family's header instead.
///
///     const auto model = AutoModelForCausalLM::from_pretrained("llama-2-7b", {.dtype = at::kBFloat16});
///     const auto output = model->forward({.input_ids = ids});

#include <transformers/export.h>
#include <transformers/utils/configuration/configuration_utils.h>
#include <transformers/utils/modeling/causal_lm.h>
#include <transformers/utils/modeling/from_pretrained.h>
#include <transformers/utils/modeling/modeling_layers.h>

#include <memory>
#include <string>
#include <string_view>

namespace TRANSFORMERS_API transformers {

// HF's auto classes: the family is chosen by `model_type` in config.json. They throw on an unknown type and on one that
// contradicts `architectures`. `from_pretrained` loads a folder according to its options and leaves the model in eval
// mode; `from_config` builds a newly initialized model in train mode according to `construction_options()`.

/// Mirrors HF `AutoConfig`. `source` names the text in errors.
struct AutoConfig {
  static std::unique_ptr<PretrainedConfig> from_pretrained(const ModelFolder& folder);
  static std::unique_ptr<PretrainedConfig> from_json(std::string_view text, const std::string& source = "AutoConfig");
};

/// The model without a head. Mirrors HF `AutoModel`.
struct AutoModel {
  static std::shared_ptr<BaseModel> from_pretrained(const ModelFolder& folder, const LoadOptions& options = {});
  static std::shared_ptr<BaseModel> from_config(const PretrainedConfig& config);
};

/// The class that `architectures` names, with its head; a causal LM if it names none. If the name is not known, the
/// weights decide: a complete causal LM is loaded as one, as in HF, and weights of a model without a head as such a
/// model. Anything else is an error, since a head would be lost.
struct AutoModelByArchitecture {
  static std::shared_ptr<PreTrainedModel> from_pretrained(const ModelFolder& folder, const LoadOptions& options = {});
  /// `head` is a class name without the family ("ForCausalLM", "Model"); empty: the head that `architectures` names,
  /// else a causal LM.
  static std::shared_ptr<PreTrainedModel> from_config(const PretrainedConfig& config, const std::string& head = {});
  /// Whether the first of `architectures` is the name of a class of this library.
  static bool knows(const PretrainedConfig& config);
  /// The head that `from_pretrained` chooses for a folder with these weights.
  static std::string head_for(const PretrainedConfig& config, const Checkpoint& checkpoint, const std::string& folder);
};

/// Mirrors HF `AutoModelForCausalLM`.
struct AutoModelForCausalLM {
  static std::shared_ptr<CausalLM> from_pretrained(const ModelFolder& folder, const LoadOptions& options = {});
  static std::shared_ptr<CausalLM> from_config(const PretrainedConfig& config);
};

/// Mirrors HF `AutoModelForSequenceClassification`.
struct AutoModelForSequenceClassification {
  static std::shared_ptr<GenericForSequenceClassification> from_pretrained(const ModelFolder& folder,
                                                                           const LoadOptions& options = {});
  static std::shared_ptr<GenericForSequenceClassification> from_config(const PretrainedConfig& config);
};

/// Mirrors HF `AutoModelForQuestionAnswering`.
struct AutoModelForQuestionAnswering {
  static std::shared_ptr<GenericForQuestionAnswering> from_pretrained(const ModelFolder& folder,
                                                                      const LoadOptions& options = {});
  static std::shared_ptr<GenericForQuestionAnswering> from_config(const PretrainedConfig& config);
};

/// Mirrors HF `AutoModelForTokenClassification`.
struct AutoModelForTokenClassification {
  static std::shared_ptr<GenericForTokenClassification> from_pretrained(const ModelFolder& folder,
                                                                        const LoadOptions& options = {});
  static std::shared_ptr<GenericForTokenClassification> from_config(const PretrainedConfig& config);
};

}  // namespace transformers
