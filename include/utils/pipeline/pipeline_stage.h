#pragma once

/// \file
/// The room utils/pipeline trains causal language models whose blocks are spread over ranks: rank r runs stage r, and a
/// schedule sends micro-batches through the stages. It does not generate text; to run a model over several devices of
/// one process use a device map (utils/placement).
///
///     const auto group = init_process_group();
///     const auto stage = load_pipeline_stage<LlamaForCausalLM>("llama-2-7b", group);
///     AdamW optimizer(stage.parameters());
///     Schedule1F1B schedule(stage, /*n_microbatches=*/4);
///     const at::Tensor loss = schedule.step({.input_ids = ids}, {.labels = ids});
///     clip_grad_norm_(stage, /*max_norm=*/1.0);
///     optimizer.step();

#include <transformers/export.h>
#include <transformers/utils/distributed/process_group.h>
#include <transformers/utils/distributed/together.h>
#include <transformers/utils/modeling/causal_lm.h>
#include <transformers/utils/modeling/load_options.h>
#include <transformers/utils/nn/state_dict.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Pipelines over layers, with the names of torch.distributed.pipelining, torch 2.11.

/// Assigns consecutive blocks to the stages as evenly as possible, larger shares first. Throws on more stages than
/// blocks.
std::vector<BlockRange> split_blocks(int64_t num_blocks, int64_t num_stages);

/// The device map of a stage: its blocks are on `device`, with the embeddings on the first stage and everything after
/// the blocks on the last; all other parts are on "meta". With it, `from_pretrained` reads only one stage.
DeviceMap stage_device_map(PreTrainedModel& model, int64_t stage_index, int64_t num_stages, c10::Device device);

/// A rank's part of a causal language model: rank r of the group is stage r. It is a handle: copies refer to the same
/// stage.
class PipelineStage {
 public:
  /// Keeps the stage's part of a model that is the same on all ranks, and frees the memory of the rest. Parameters keep
  /// their names and remain the same tensors; those of other stages lose their values. Embeddings that the first stage
  /// and the last share get the values of the first. All ranks must call it. Throws on all of them, changing nothing,
  /// when there are more ranks than blocks, the models differ, a part of the stage has no values, or the model is
  /// spread over several places.
  PipelineStage(std::shared_ptr<CausalLM> model, const ProcessGroup& group);

  int64_t stage_index() const { return group_.rank(); }
  int64_t num_stages() const { return group_.size(); }
  bool is_first() const { return stage_index() == 0; }
  bool is_last() const { return stage_index() + 1 == num_stages(); }
  const ProcessGroup& group() const { return group_; }
  CausalLM& model() const { return *model_; }
  /// The device of the stage's parameters.
  c10::Device device() const { return parameters().front().device(); }

  /// The parameters of the stage, each tensor once, for its optimizer. Tied embeddings are on the first and the last
  /// stage; both get the same gradients, so that the same optimizer on both keeps them equal.
  std::vector<at::Tensor> parameters() const;
  /// The tied embeddings, if this stage shares them with another one; else undefined.
  at::Tensor shared_embeddings() const;

  /// Runs one micro-batch through the stage. hidden_states: [batch, seq, hidden] of the previous stage; undefined on
  /// the first. Returns hidden states, or on the last stage the loss.
  at::Tensor forward_one_chunk(const at::Tensor& hidden_states, ModelInputs inputs,
                               const CausalLMOptions& options) const;

 private:
  std::shared_ptr<CausalLM> model_;
  ProcessGroup group_;
};

/// Scales the gradients of all stages so that their norm, tied embeddings counted once, is at most `max_norm`; returns
/// the norm before, fp32 []. A `max_norm` of 0 or less only measures. All ranks must call it. Mirrors
/// `torch.nn.utils.clip_grad_norm_`.
at::Tensor clip_grad_norm_(const PipelineStage& stage, double max_norm);

/// The state dict of the whole model, on the CPU of rank `dst`; empty on the others. All ranks must call it.
StateDict gather_state_dict(const PipelineStage& stage, int64_t dst = 0);

/// `save_pretrained` of the whole model into one folder by rank 0; all ranks must call it. Returns when the folder is
/// written; throws on all ranks when rank 0 cannot write it.
void save_pretrained(const PipelineStage& stage, const std::string& folder, const SaveOptions& options = {});

/// `Model::from_pretrained` in which each rank reads only its stage. `Model` is a holder such as LlamaForCausalLM, or
/// AutoModelForCausalLM. Throws as `from_pretrained` and PipelineStage do, and on all ranks when one cannot read.
/// Ignores `options.device_map`.
template <typename Model>
PipelineStage load_pipeline_stage(const std::string& folder, const ProcessGroup& group, LoadOptions options = {}) {
  options.device_map = DeviceMapOption::MapOfModel([&group, device = options.device](PreTrainedModel& model) {
    return stage_device_map(model, group.rank(), group.size(), device);
  });
  decltype(Model::from_pretrained(folder, options)) model{nullptr};
  together(group, [&] { model = Model::from_pretrained(folder, options); });
  if constexpr (requires { model.ptr(); }) {
    return {model.ptr(), group};
  } else {
    return {std::move(model), group};
  }
}

}  // namespace transformers
