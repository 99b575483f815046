#include "utils/modeling/composed.h"

#include <ATen/ATen.h>
#include <transformers/utils/modeling/losses.h>
#include <transformers/utils/modeling/rope.h>

#include <cmath>
#include <numbers>

namespace transformers::composed {

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  // Without a weight, LibTorch's kernel rounds at the same point as HF, which is before the multiplication by the
  // weight.
  return weight * at::rms_norm(x, {x.size(-1)}, {}, eps);
}

at::Tensor silu_and_mul(const at::Tensor& gate, const at::Tensor& up) { return at::silu(gate) * up; }

// The factors have names so that g++ evaluates them in Python's order: autograd adds gradients in that order, which
// makes a difference in half precision.
at::Tensor gelu_new(const at::Tensor& x) {
  const auto half = 0.5 * x;
  return half * (1.0 + at::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * at::pow(x, 3.0))));
}

at::Tensor rotate_halves(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const auto for_heads = [](const at::Tensor& table) { return table.unsqueeze(1); };
  return x * for_heads(cos) + rotate_half(x) * for_heads(sin);
}

at::Tensor rotate_interleaved(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const auto for_pairs = [](const at::Tensor& table) { return table.unsqueeze(2).repeat_interleave(2, 3); };
  const auto rotated = [&](const at::Tensor& part) {
    return part * for_pairs(cos) + rotate_every_two(part) * for_pairs(sin);
  };
  const auto dim = x.size(-1), rotary_dim = 2 * cos.size(2);
  if (rotary_dim == dim) {
    return rotated(x);
  }
  return at::cat({rotated(x.narrow(-1, 0, rotary_dim)), x.narrow(-1, rotary_dim, dim - rotary_dim)}, -1);
}

at::Tensor cross_entropy_(at::Tensor& logits, const at::Tensor& labels, double smoothing, const at::Tensor& share) {
  const auto counted = labels.ne(kIgnoreIndex);
  const auto targets = labels.where(counted, 0).unsqueeze(1);
  const auto log_sum = logits.logsumexp(1, /*keepdim=*/true);
  auto losses = (log_sum - logits.gather(1, targets)) * (1 - smoothing);
  if (smoothing > 0) {
    losses += (log_sum - logits.mean(1, /*keepdim=*/true)) * smoothing;
  }
  logits.sub_(log_sum).exp_();
  logits.scatter_add_(1, targets, at::full_like(log_sum, smoothing - 1));
  if (smoothing > 0) {
    logits.sub_(smoothing / static_cast<double>(logits.size(1)));
  }
  logits.mul_(counted.unsqueeze(1)).mul_(share);
  return losses.squeeze(1).masked_fill(~counted, 0);
}

}  // namespace transformers::composed
