#pragma once

#include <transformers/export.h>
#include <transformers/utils/optim/optimizer.h>

namespace TRANSFORMERS_API transformers {

/// The 256 values that the bytes of an 8-bit state encode, ascending, float32 [256]: in [−1, 1], or in [0, 1] without a
/// sign, and dense near 0. Mirrors bitsandbytes' `create_dynamic_map` (Dettmers 2015).
at::Tensor create_dynamic_map(bool is_signed = true);

/// AdamW that stores each of its averages in one byte, with an fp32 scale for every 256 of them: 2.03 bytes per
/// parameter instead of 8. Parameters with fewer than 4096 elements keep fp32 averages. Mirrors bitsandbytes 0.50.2
/// `AdamW8bit` (Dettmers et al. 2022); each value is rounded to the nearest of the map, and to the lower one of two
/// equally near. The arithmetic is fp32, whatever the dtype of the parameters. Options: torch::optim::AdamWOptions,
/// without amsgrad.
class AdamW8bit : public Optimizer {
 public:
  explicit AdamW8bit(const std::vector<torch::optim::OptimizerParamGroup>& groups,
                     torch::optim::AdamWOptions defaults = {}, LowPrecision low_precision = LowPrecision::kPlain);
  explicit AdamW8bit(std::vector<at::Tensor> parameters, torch::optim::AdamWOptions defaults = {},
                     LowPrecision low_precision = LowPrecision::kPlain);

 private:
  void update(Batch& batch) override;
};

}  // namespace transformers
