#include "utils/pruning/narrowing.h"

#include <c10/util/Exception.h>

namespace transformers {

Selection kept_along(int64_t dim, const at::Tensor& keep) {
  return [dim, index = keep.nonzero().flatten()](const at::Tensor& tensor) {
    return tensor.index_select(dim, index.to(tensor.device()));
  };
}

void narrow_and_note(const at::Tensor& parameter, Selection select, PrunedParameters& done) {
  auto old_sizes = parameter.sizes().vec();
  narrow_parameter(parameter, select);
  done.narrowed.push_back({parameter, std::move(old_sizes), std::move(select)});
}

void use_up_mask(const at::Tensor& parameter) {
  if (auto mask = ParameterMask::on(parameter)) {
    mask->remove();
  }
}

void check_keep(const std::string& whose, const at::Tensor& keep, int64_t size) {
  const bool fits = keep.defined() && keep.scalar_type() == at::kBool && keep.dim() == 1 && keep.size(0) == size;
  TORCH_CHECK(fits, whose, ": a mask of its outputs must be bool of shape [", size, "], got ",
              keep.defined() ? c10::toString(keep.scalar_type()) : "none", " of shape ",
              keep.defined() ? keep.sizes() : at::IntArrayRef());
  TORCH_CHECK(keep.any().item<bool>(), whose, ": the mask hides all of its ", size, " outputs, at least one must stay");
}

}  // namespace transformers
