#include "utils/optim/stochastic_rounding.h"

#include <ATen/ATen.h>

namespace transformers {

void round_stochastically_(at::Tensor& target, const at::Tensor& source) {
  constexpr int64_t kDroppedBits = 1 << 16;
  // The dropped half of the bits carries into the kept half as often as its share of a unit says.
  auto bits = source.view(at::kInt) + at::randint(kDroppedBits, source.sizes(), source.options().dtype(at::kInt));
  const auto rounded = bits.bitwise_and_(-kDroppedBits).view(at::kFloat);
  target.copy_(at::where(source.isfinite(), rounded, source));
}

}  // namespace transformers
