#include <ATen/ops/ones.h>
#include <c10/util/Exception.h>
#include <transformers/utils/pruning/fake_structured_sparsity.h>

namespace transformers {
namespace {

std::vector<int64_t> row_shape(const at::Tensor& parameter) {
  std::vector<int64_t> shape(static_cast<size_t>(parameter.dim()), 1);
  shape.front() = parameter.size(0);
  return shape;
}

void check_rows(const at::Tensor& mask, const at::Tensor& parameter) {
  const bool fits = mask.dim() == 1 && mask.size(0) == parameter.size(0);
  TORCH_CHECK(mask.scalar_type() == at::kBool && fits, "a mask of rows must be bool of shape [", parameter.size(0),
              "], got ", mask.scalar_type(), " of shape ", mask.sizes());
}

/// The mask as `ParameterMask` takes it, [rows, 1, ...].
at::Tensor rows_of(const at::Tensor& parameter, const at::Tensor& mask) {
  TORCH_CHECK(parameter.defined() && parameter.dim() > 0, "a mask of rows needs a parameter with rows");
  if (!mask.defined()) {
    return at::ones(row_shape(parameter), parameter.options().dtype(at::kBool).requires_grad(false));
  }
  check_rows(mask, parameter);
  return mask.to(parameter.device(), at::kBool, /*non_blocking=*/false, /*copy=*/true).reshape(row_shape(parameter));
}

}  // namespace

FakeStructuredSparsity::FakeStructuredSparsity(const at::Tensor& parameter, const at::Tensor& mask)
    : ParameterMask(parameter, rows_of(parameter, mask)) {}

std::optional<FakeStructuredSparsity> FakeStructuredSparsity::on(const at::Tensor& parameter) {
  const auto found = ParameterMask::on(parameter);
  const bool is_of_rows = found && found->mask().scalar_type() == at::kBool &&
                          found->mask().sizes() == at::IntArrayRef(row_shape(parameter));
  return is_of_rows ? std::make_optional(FakeStructuredSparsity(*found)) : std::nullopt;
}

at::Tensor FakeStructuredSparsity::mask() const { return ParameterMask::mask().flatten().clone(); }

void FakeStructuredSparsity::set_mask(const at::Tensor& mask) {
  check_rows(mask, parameter());
  ParameterMask::set(mask.reshape(row_shape(parameter())));
}

}  // namespace transformers
