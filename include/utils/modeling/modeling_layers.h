#pragma once

#include <transformers/export.h>
#include <transformers/utils/modeling/base_model.h>

#include <functional>
#include <memory>
#include <string>

namespace TRANSFORMERS_API transformers {

// The heads that HF shares between families: modeling_layers.py, transformers 5.23.0. A family derives from each of
// them and passes its base model with the name under which it is registered.

/// Base class of the three: owns the base model and shares its config.
class ModelWithHead : public PreTrainedModel {
 public:
  const PretrainedConfig& config() const override { return base_->config(); }
  PretrainedConfig& config() override { return base_->config(); }
  BaseModel& base_model() override { return *base_; }
  std::string base_model_prefix() const override { return prefix_; }

 protected:
  using MakeBase = std::function<std::shared_ptr<BaseModel>()>;

  explicit ModelWithHead(std::string prefix) : prefix_(std::move(prefix)) {}
  void register_base(std::shared_ptr<BaseModel> base) { base_ = register_module(prefix_, std::move(base)); }

  std::shared_ptr<BaseModel> base_;

 private:
  std::string prefix_;
};

/// Predicts one label per text, from its last token that is not padding.
class GenericForSequenceClassification : public ModelWithHead {
 public:
  /// labels: [batch], or [batch, labels]; floating for regression and multi-label. The loss is chosen by
  /// config().problem_type, which the first call with labels sets if it is unset. Throws on several rows without a
  /// pad_token_id.
  SequenceClassifierOutputWithPast forward(const ModelInputs& inputs, const at::Tensor& labels = {});

  Linear score{nullptr};

 protected:
  GenericForSequenceClassification(const MakeBase& make_base, std::string prefix);
};

/// Predicts where an answer starts and ends in the text.
class GenericForQuestionAnswering : public ModelWithHead {
 public:
  /// start_positions, end_positions: int64 [batch]; a loss needs both. Positions beyond the text are ignored.
  virtual QuestionAnsweringModelOutput forward(const ModelInputs& inputs, const at::Tensor& start_positions = {},
                                               const at::Tensor& end_positions = {});

  Linear qa_outputs{nullptr};

 protected:
  GenericForQuestionAnswering(const MakeBase& make_base, std::string prefix);
};

/// Predicts one label per token.
class GenericForTokenClassification : public ModelWithHead {
 public:
  /// labels: int64 [batch, seq], −100 is ignored.
  TokenClassifierOutput forward(const ModelInputs& inputs, const at::Tensor& labels = {});

  Linear score{nullptr};

 protected:
  GenericForTokenClassification(const MakeBase& make_base, std::string prefix);
};

}  // namespace transformers
