#include "utils/optim/stochastic_rounding.h"

#include <ATen/ATen.h>

namespace transformers {

void round_stochastically_(at::Tensor& target, const at::Tensor& source) {
  constexpr int64_t kDroppedBits = 1 << 16;
  // Adding random bits carries into the kept half with a probability equal to the dropped fraction of a unit.
  auto bits = source.view(at::kInt) + at::randint(kDroppedBits, source.sizes(), source.options().dtype(at::kInt));
  const auto rounded = bits.bitwise_and_(-kDroppedBits).view(at::kFloat);
  target.copy_(at::where(source.isfinite(), rounded, source));
}

}  // namespace transformers
