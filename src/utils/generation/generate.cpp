#include <ATen/core/grad_mode.h>
#include <transformers/utils/generation/generate.h>

#include "utils/generation/decoding.h"

namespace transformers {

GenerateOutput generate(CausalLM& model, const ModelInputs& inputs, const GenerationConfig& config,
                        const GenerateHooks& hooks) {
  // Inference mode is not used, because a cache filled in it could not be extended outside of it.
  const at::NoGradGuard no_grad;
  const auto plan = plan_generation(model, inputs, config, hooks);
  if (plan.drafts.are_wanted) {
    return assisted_decoding(model, plan, hooks);
  }
  return plan.num_beams > 1 ? beam_search(model, plan, hooks) : sample(model, plan, hooks);
}

}  // namespace transformers
