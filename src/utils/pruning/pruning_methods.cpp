// The masks of torch/nn/utils/prune.py, torch 2.11.0.
#include <ATen/ops/norm.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/rand_like.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>
#include <transformers/utils/pruning/prune.h>

#include <cmath>

namespace transformers::prune {
namespace {

Amount checked(Amount amount) {
  if (const auto* fraction = std::get_if<double>(&amount)) {
    TORCH_CHECK(*fraction >= 0 && *fraction <= 1, "an amount to prune must be a fraction in [0, 1] or a count, got ",
                *fraction);
  } else {
    TORCH_CHECK(std::get<int64_t>(amount) >= 0, "a count to prune must not be negative, got ",
                std::get<int64_t>(amount));
  }
  return amount;
}

int64_t checked_count(int64_t count, int64_t size) {
  TORCH_CHECK(count <= size, "the amount to prune, ", count, ", is more than the ", size, " there are");
  return count;
}

/// Halves are rounded to the even neighbour, as by Python's round.
int64_t count_of(const Amount& amount, int64_t size) {
  const auto* fraction = std::get_if<double>(&amount);
  return fraction != nullptr ? static_cast<int64_t>(std::nearbyint(*fraction * static_cast<double>(size)))
                             : checked_count(std::get<int64_t>(amount), size);
}

/// Rounded down, as in the code of Wanda.
int64_t floor_of(const Amount& amount, int64_t size) {
  const auto* fraction = std::get_if<double>(&amount);
  return fraction != nullptr ? static_cast<int64_t>(*fraction * static_cast<double>(size))
                             : checked_count(std::get<int64_t>(amount), size);
}

void check_channels(const at::Tensor& t, int64_t dim) {
  TORCH_CHECK(t.dim() > 1, "structured pruning needs a tensor of 2 dimensions or more, got shape ", t.sizes());
  TORCH_CHECK(dim >= -t.dim() && dim < t.dim(), "dim ", dim, " is out of range for a tensor of shape ", t.sizes());
}

at::Tensor without_entries(const at::Tensor& mask, const at::Tensor& entries) {
  auto flat = mask.flatten().clone();
  flat.index_fill_(0, entries, 0);
  return flat.view(mask.sizes());
}

at::Tensor with_channels(const at::Tensor& mask, int64_t dim, const at::Tensor& channels) {
  return at::zeros_like(mask).index_fill_(dim, channels.to(mask.device()), 1).mul_(mask);
}

/// Magnitudes; entries that are pruned already get −1, which is below all others.
at::Tensor magnitudes_left(const at::Tensor& t, const at::Tensor& mask) { return t.abs().masked_fill(mask.eq(0), -1); }

}  // namespace

at::Tensor Identity::compute_mask(const at::Tensor&, const at::Tensor& default_mask) const { return default_mask; }

RandomUnstructured::RandomUnstructured(Amount amount) : amount_(checked(amount)) {}

at::Tensor RandomUnstructured::compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const {
  const auto count = count_of(amount_, t.numel());
  if (count == 0) {
    return default_mask;
  }
  return without_entries(default_mask, std::get<1>(at::rand_like(t).flatten().topk(count)));
}

L1Unstructured::L1Unstructured(Amount amount) : amount_(checked(amount)) {}

at::Tensor L1Unstructured::compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const {
  const auto count = count_of(amount_, t.numel());
  if (count == 0) {
    return default_mask;
  }
  const auto smallest = std::get<1>(t.abs().flatten().topk(count, /*dim=*/-1, /*largest=*/false));
  return without_entries(default_mask, smallest);
}

RandomStructured::RandomStructured(Amount amount, int64_t dim) : amount_(checked(amount)), dim_(dim) {}

at::Tensor RandomStructured::compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const {
  check_channels(t, dim_);
  const auto channels = t.size(dim_);
  const auto count = count_of(amount_, channels);
  if (count == 0) {
    return default_mask;
  }
  const auto drawn = at::rand({channels});
  const auto threshold = std::get<0>(drawn.kthvalue(count));
  return with_channels(default_mask, dim_, drawn.gt(threshold).nonzero().flatten());
}

LnStructured::LnStructured(Amount amount, double n, int64_t dim) : amount_(checked(amount)), n_(n), dim_(dim) {
  TORCH_CHECK(!std::isnan(n), "the order n of a norm must be a number or infinite, got nan");
}

at::Tensor LnStructured::compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const {
  check_channels(t, dim_);
  const auto channels = t.size(dim_);
  const auto count = count_of(amount_, channels);
  if (count == 0) {
    return default_mask;
  }
  const auto norms = at::norm(t.movedim(dim_, 0).flatten(1), n_, {1});
  return with_channels(default_mask, dim_, std::get<1>(norms.topk(channels - count)));
}

CustomFromMask::CustomFromMask(at::Tensor mask) : mask_(std::move(mask)) {
  TORCH_CHECK(mask_.defined() && mask_.eq(0).logical_or(mask_.eq(1)).all().item<bool>(),
              "a custom mask must hold 0 and 1 only");
}

at::Tensor CustomFromMask::compute_mask(const at::Tensor&, const at::Tensor& default_mask) const {
  TORCH_CHECK(mask_.sizes() == default_mask.sizes(), "a custom mask must have the parameter's shape ",
              default_mask.sizes(), ", got ", mask_.sizes());
  return default_mask * mask_.to(default_mask.options());
}

SemiStructured::SemiStructured(int64_t kept, int64_t of) : kept_(kept), of_(of) {
  TORCH_CHECK(kept > 0 && kept <= of, "semi-structured pruning keeps 1 to ", of, " of each ", of, " entries, got ",
              kept);
}

at::Tensor SemiStructured::compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const {
  TORCH_CHECK(t.dim() > 0 && t.size(-1) % of_ == 0, "the last dimension must be a multiple of ", of_, " to keep ",
              kept_, " of each ", of_, ", got shape ", t.sizes());
  const auto groups = magnitudes_left(t, default_mask).reshape({-1, of_});
  auto mask = at::zeros_like(groups);
  mask.scatter_(1, std::get<1>(groups.topk(kept_, 1)), 1);
  return default_mask * mask.view(t.sizes());
}

RowwiseUnstructured::RowwiseUnstructured(Amount amount) : amount_(checked(amount)) {}

at::Tensor RowwiseUnstructured::compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const {
  check_channels(t, 0);
  const auto rows = magnitudes_left(t, default_mask).flatten(1);
  const auto smallest = std::get<1>(rows.topk(floor_of(amount_, rows.size(1)), 1, /*largest=*/false));
  return default_mask.flatten(1).scatter(1, smallest, 0).view(t.sizes());
}

}  // namespace transformers::prune
