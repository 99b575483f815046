#pragma once

#include <transformers/utils/pruning/optimizer_state.h>

namespace transformers {

/// Selects the entries along `dim` where `keep`, bool [size of dim], is true.
TensorSelection kept_along(int64_t dim, const at::Tensor& keep);

/// Narrows a parameter and records it for optimizers.
void narrow_and_note(const at::Tensor& parameter, TensorSelection select, PrunedParameters& done);

/// Makes hidden entries permanently zero and removes the parameter's mask, if it has one.
void use_up_mask(const at::Tensor& parameter);

}  // namespace transformers
