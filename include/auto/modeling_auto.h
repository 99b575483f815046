#pragma once

/// \file
/// Models of any family: reads `model_type` in config.json and builds or loads the class that belongs to it. This is
/// the only room that knows all families; programs that need one family use that family's header instead.
///
///     const auto model = AutoModelForCausalLM::from_pretrained("llama-2-7b", {.dtype = at::kBFloat16});
///     const auto output = model->forward({.input_ids = ids});

#include <transformers/export.h>
#include <transformers/utils/modeling/causal_lm.h>
#include <transformers/utils/modeling/configuration_utils.h>
#include <transformers/utils/modeling/from_pretrained.h>
#include <transformers/utils/modeling/modeling_layers.h>

#include <memory>
#include <string>
#include <string_view>

namespace TRANSFORMERS_API transformers {

// HF's auto classes: the family is chosen by `model_type` in config.json. An unknown one, or one that contradicts
// `architectures`, throws. `from_pretrained` loads a folder as the options say and leaves the model in eval mode;
// `from_config` builds with newly initialized weights, in train mode, as `construction_options()` say.

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

/// The class that `architectures` names, with its head; a causal LM where it names none. Where the name is not known
/// the weights decide: where all of a causal LM is there it is one, as in HF; nothing but a model without a head is
/// that; all else is an error, since a head would be lost.
struct AutoModelByArchitecture {
  static std::shared_ptr<PreTrainedModel> from_pretrained(const ModelFolder& folder, const LoadOptions& options = {});
  /// `head` is a class's name without the family's ("ForCausalLM", "Model"); empty: as `architectures` says, else a
  /// causal LM.
  static std::shared_ptr<PreTrainedModel> from_config(const PretrainedConfig& config, const std::string& head = {});
  /// Whether the first of `architectures` is the name of a class here.
  static bool knows(const PretrainedConfig& config);
  /// The head that `from_pretrained` gives a folder with these weights.
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
