#pragma once

#include <transformers/export.h>
#include <transformers/utils/modeling/modeling_outputs.h>
#include <transformers/utils/modeling/pretrained_model.h>
#include <transformers/utils/nn/forward_hooks.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// Blocks [begin, end) of a model, a stage of a pipeline.
struct BlockRange {
  int64_t begin = 0;
  int64_t end = 0;
};

/// A model without a head: GPTJModel, LlamaModel. It holds which of its blocks run, on which device each runs, and
/// which of them run again in backward.
class BaseModel : public PreTrainedModel {
 public:
  virtual BaseModelOutputWithPast forward(const ModelInputs& inputs) = 0;

  BaseModel& base_model() override { return *this; }
  std::string base_model_prefix() const override { return {}; }
  Embedding get_input_embeddings() override = 0;
  void set_input_embeddings(Embedding embeddings) override = 0;
  ModelStructure structure() override = 0;

  /// Keeps only these layers, in this order, and renumbers them. The caller adapts the config.
  virtual void select_layers(const std::vector<int64_t>& layers) = 0;

  /// Restricts forward to these blocks. If the first block is excluded, pass hidden states as `inputs_embeds`; if the
  /// last is, forward returns hidden states without the last norm. The other blocks may stay on the meta device.
  void run_blocks(const BlockRange& blocks);
  /// The blocks that a forward runs; all unless run_blocks restricted it.
  BlockRange blocks_to_run() const;
  /// Whether forward runs the last block, so that the last norm follows.
  bool runs_last_block() const { return blocks_to_run().end == config().get_num_hidden_layers(); }

  /// The device of each block; empty: all blocks run on one device.
  const std::vector<c10::Device>& block_devices() const { return block_devices_; }
  void set_block_devices(std::vector<c10::Device> devices) { block_devices_ = std::move(devices); }

  /// Training keeps only the input of every n-th block; 0 switches this off. See
  /// PreTrainedModel::gradient_checkpointing_enable.
  void checkpoint_every(int64_t n) { checkpoint_every_ = n; }
  int64_t checkpoint_every() const { return checkpoint_every_; }
  /// Whether the forward that is running now will run block `i` again in backward.
  bool checkpoints_block(size_t i) const;

  /// Implements PreTrainedModel::enable_input_require_grads with a hook on the embeddings.
  void require_grads_of_embeddings();
  void stop_requiring_grads_of_embeddings();

  void copy_settings(const PreTrainedModel& other) override;

 protected:
  /// While blocks are checkpointed: the inputs without a cache, with a warning where one was asked for. Otherwise the
  /// inputs as they are.
  ModelInputs without_cache_when_checkpointing(ModelInputs inputs) const;

 private:
  int64_t checkpoint_every_ = 0;                            // 0: off
  std::optional<ForwardHooks::HookId> require_grads_hook_;  // on the embeddings
  std::optional<BlockRange> blocks_;                        // unset: all
  std::vector<c10::Device> block_devices_;                  // empty: all in one place
};

}  // namespace transformers
