// Mirrors UnbatchedClassifierFreeGuidanceLogitsProcessor of generation/logits_process.py, transformers 5.23.0.
#include "utils/generation/guidance.h"

#include <ATen/ATen.h>

namespace transformers {
namespace {

ModelInputs unconditional_inputs(const at::Tensor& mask, bool use_cache, c10::Device device) {
  ModelInputs inputs;
  if (mask.defined() && !mask.ne(0).all().item<bool>()) {
    inputs.attention_mask = mask.to(device);
  }
  inputs.use_cache = use_cache;
  if (use_cache) {
    inputs.past_key_values = std::make_shared<DynamicCache>();
  }
  return inputs;
}

}  // namespace

UnbatchedClassifierFreeGuidanceLogitsProcessor::UnbatchedClassifierFreeGuidanceLogitsProcessor(
    double guidance_scale, CausalLM& model, at::Tensor unconditional_ids,
    const at::Tensor& unconditional_attention_mask, bool use_cache)
    : guidance_scale_(guidance_scale),
      unconditional_ids_(std::move(unconditional_ids)),
      unconditional_(model, unconditional_inputs(unconditional_attention_mask, use_cache, model.device()),
                     unconditional_ids_.defined() ? unconditional_ids_.size(1) : 1) {}

at::Tensor UnbatchedClassifierFreeGuidanceLogitsProcessor::operator()(const at::Tensor& input_ids,
                                                                      const at::Tensor& scores) {
  const auto newest = input_ids.slice(1, -1);
  if (!first_step_) {
    unconditional_ids_ = at::cat({unconditional_ids_, newest}, 1);
  } else {
    unconditional_ids_ = unconditional_ids_.defined() ? unconditional_ids_.to(input_ids.device()) : newest;
    first_step_ = false;
  }
  const auto conditional = scores.log_softmax(-1);
  const auto unconditional = unconditional_(unconditional_ids_).log_softmax(-1);
  return unconditional + guidance_scale_ * (conditional - unconditional);
}

}  // namespace transformers
