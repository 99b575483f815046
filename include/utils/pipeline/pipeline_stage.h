#pragma once

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

/// Consecutive blocks for each stage, as evenly as can be, the larger shares first. Throws for more stages than blocks.
std::vector<BlockRange> split_blocks(int64_t num_blocks, int64_t num_stages);

/// Where a stage's parts of a model lie: its blocks on `device`, with the embeddings on the first stage and everything
/// behind the blocks on the last; the rest is nowhere ("meta"). What `from_pretrained` takes to read a stage alone.
DeviceMap stage_device_map(PreTrainedModel& model, int64_t stage_index, int64_t num_stages, c10::Device device);

/// A rank's part of a causal language model: rank r of the group is stage r. A handle: copies are the same stage.
class PipelineStage {
 public:
  /// Keeps the stage's part of a model that is alike on all ranks, and gives the memory of the rest back. Parameters
  /// keep their names and stay the same tensors; those of other stages have no values any more. Embeddings that the
  /// first stage and the last share get the first one's values. All ranks call it. Throws on all of them, changing
  /// nothing, when there are more ranks than blocks, the models differ, a part of the stage has no values, or the model
  /// lies in several places.
  PipelineStage(std::shared_ptr<CausalLM> model, const ProcessGroup& group);

  int64_t stage_index() const { return group_.rank(); }
  int64_t num_stages() const { return group_.size(); }
  bool is_first() const { return stage_index() == 0; }
  bool is_last() const { return stage_index() + 1 == num_stages(); }
  const ProcessGroup& group() const { return group_; }
  CausalLM& model() const { return *model_; }
  /// Of the stage's values.
  c10::Device device() const { return parameters().front().device(); }

  /// What the stage holds, each tensor once: what its optimizer takes. Tied embeddings are held by the first stage and
  /// the last; they get the same gradients, so that the same optimizer on both keeps them alike.
  std::vector<at::Tensor> parameters() const;
  /// The tied embeddings on a stage that shares them with another; else undefined.
  at::Tensor shared_embeddings() const;

  /// One micro-batch through the stage. hidden_states: [batch, seq, hidden] of the stage before; undefined on the
  /// first. Returns hidden states, on the last stage the loss.
  at::Tensor forward_one_chunk(const at::Tensor& hidden_states, ModelInputs inputs,
                               const CausalLMOptions& options) const;

 private:
  std::shared_ptr<CausalLM> model_;
  ProcessGroup group_;
};

/// Scales the gradients of all stages so that their norm, tied embeddings counted once, is at most `max_norm`; returns
/// the norm before, fp32 []. A `max_norm` of 0 or less only measures. All ranks call it. Mirrors
/// `torch.nn.utils.clip_grad_norm_`.
at::Tensor clip_grad_norm_(const PipelineStage& stage, double max_norm);

/// The whole state dict, on the CPU of rank `dst`; empty on the others. All ranks call it.
StateDict gather_state_dict(const PipelineStage& stage, int64_t dst = 0);

/// `save_pretrained` of the whole model into one folder, by rank 0; all ranks call it. Returns when the folder is
/// there; throws on all ranks when rank 0 cannot write it.
void save_pretrained(const PipelineStage& stage, const std::string& folder, const SaveOptions& options = {});

/// `Model::from_pretrained` of which each rank reads its stage alone. `Model`: a holder such as LlamaForCausalLM, or
/// AutoModelForCausalLM. Throws as `from_pretrained` and PipelineStage do, on all ranks when one cannot read.
/// `options.device_map` is not looked at.
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
