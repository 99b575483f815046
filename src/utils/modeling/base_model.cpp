#include <ATen/ATen.h>
#include <transformers/utils/modeling/base_model.h>

namespace transformers {

void BaseModel::run_blocks(const BlockRange& blocks) {
  const auto count = config().get_num_hidden_layers();
  TORCH_CHECK(blocks.begin >= 0 && blocks.begin < blocks.end && blocks.end <= count, "run_blocks: blocks [",
              blocks.begin, ", ", blocks.end, ") are not among the model's ", count);
  blocks_ = blocks;
}

BlockRange BaseModel::blocks_to_run() const {
  return blocks_.value_or(BlockRange{0, config().get_num_hidden_layers()});
}

bool BaseModel::checkpoints_block(size_t i) const {
  return checkpoint_every_ > 0 && is_training() && at::GradMode::is_enabled() &&
         i % static_cast<size_t>(checkpoint_every_) == 0;
}

ModelInputs BaseModel::without_cache_when_checkpointing(ModelInputs inputs) const {
  if (checkpoints_block(0) && (inputs.past_key_values || inputs.use_cache.value_or(config().use_cache))) {
    TORCH_WARN_ONCE("use_cache is off while gradient checkpointing runs blocks twice");
    inputs.past_key_values = nullptr;
    inputs.use_cache = false;
  }
  return inputs;
}

void BaseModel::require_grads_of_embeddings() {
  stop_requiring_grads_of_embeddings();
  require_grads_hook_ = get_input_embeddings()->register_forward_hook([](const at::Tensor&, const at::Tensor& output) {
    const bool is_frozen = at::GradMode::is_enabled() && !output.requires_grad();
    return is_frozen ? output.detach().requires_grad_() : at::Tensor();
  });
}

void BaseModel::stop_requiring_grads_of_embeddings() {
  if (require_grads_hook_) {
    get_input_embeddings()->remove_forward_hook(*require_grads_hook_);
    require_grads_hook_.reset();
  }
}

void BaseModel::copy_settings(const PreTrainedModel& other) {
  const auto& model = dynamic_cast<const BaseModel&>(other);
  checkpoint_every_ = model.checkpoint_every_;
  require_grads_hook_ = model.require_grads_hook_;
  blocks_ = model.blocks_;
  block_devices_ = model.block_devices_;
}

}  // namespace transformers
