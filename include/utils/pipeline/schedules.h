#pragma once

#include <transformers/export.h>
#include <transformers/utils/pipeline/pipeline_stage.h>

#include <map>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Mirrors distributed/pipelining/schedules.py, torch 2.11.

/// One action of a stage on one micro-batch.
struct PipelineAction {
  enum class Kind { kForward, kBackward };
  Kind kind = Kind::kForward;
  int64_t microbatch = 0;
  bool operator==(const PipelineAction&) const = default;
};

/// The actions of GPipe: all forwards, then all backwards.
std::vector<PipelineAction> gpipe_actions(int64_t n_microbatches);
/// The actions of 1F1B: as many forwards as there are stages from this one on, then alternately one backward and one
/// forward, then the remaining backwards. A stage holds at most that many micro-batches.
std::vector<PipelineAction> one_f_one_b_actions(int64_t stage_index, int64_t num_stages, int64_t n_microbatches);

/// Runs batches through the stages of a pipeline in micro-batches. Only one thread may use the schedule of a stage.
class PipelineSchedule {
 public:
  PipelineSchedule(const PipelineSchedule&) = delete;
  PipelineSchedule& operator=(const PipelineSchedule&) = delete;
  virtual ~PipelineSchedule() = default;

  /// Runs forward and backward of a batch and adds to the existing gradients. All ranks must call it with the same
  /// batch, whose number of rows `n_microbatches` must divide: input_ids, masks, positions and token types, head mask,
  /// labels. Returns the loss on every rank, fp32 []: the mean over the labels that count in all micro-batches
  /// together, or their sum divided by `num_items_in_batch`. Throws on all ranks when the calls differ; when one rank
  /// dies the others throw, naming it, at the latest after the group's timeout. Gradients are incomplete then.
  at::Tensor step(const ModelInputs& inputs, const CausalLMOptions& options);
  /// Computes only the loss, without gradients.
  at::Tensor eval(const ModelInputs& inputs, const CausalLMOptions& options);

  /// The largest number of micro-batches whose activations this stage held at one time in the last step.
  int64_t most_live_microbatches() const { return most_live_; }

 protected:
  PipelineSchedule(PipelineStage stage, int64_t n_microbatches, std::vector<PipelineAction> actions);

 private:
  struct Live {
    at::Tensor input, output;
  };
  struct TRANSFORMERS_PRIVATE Batch;

  at::Tensor run(const ModelInputs& inputs, const CausalLMOptions& options, const std::vector<PipelineAction>& actions);
  void forward(Batch& batch, int64_t microbatch);
  void backward(Batch& batch, int64_t microbatch);

  PipelineStage stage_;
  int64_t n_microbatches_;
  std::vector<PipelineAction> actions_;
  std::map<int64_t, Live> live_;  // by micro-batch
  int64_t most_live_ = 0;
};

class ScheduleGPipe : public PipelineSchedule {
 public:
  ScheduleGPipe(const PipelineStage& stage, int64_t n_microbatches);
};

class Schedule1F1B : public PipelineSchedule {
 public:
  Schedule1F1B(const PipelineStage& stage, int64_t n_microbatches);
};

}  // namespace transformers
