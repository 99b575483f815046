#include "utils/pruning/narrowing.h"

namespace transformers {

TensorSelection kept_along(int64_t dim, const at::Tensor& keep) {
  return [dim, index = keep.nonzero().flatten()](const at::Tensor& tensor) {
    return tensor.index_select(dim, index.to(tensor.device()));
  };
}

void narrow_and_note(const at::Tensor& parameter, TensorSelection select, PrunedParameters& done) {
  auto old_sizes = parameter.sizes().vec();
  narrow_parameter(parameter, select);
  done.narrowed.push_back({parameter, std::move(old_sizes), std::move(select)});
}

void use_up_mask(const at::Tensor& parameter) {
  if (auto mask = ParameterMask::on(parameter)) {
    mask->remove();
  }
}

}  // namespace transformers
