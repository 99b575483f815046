// Mirrors pytorch_utils.py, transformers 4.37.2: pruning of single layers, Conv1D, chunked forwards and small helpers.
#include <ATen/ATen.h>
#include <torch/nn/modules/normalization.h>
#include <transformers/utils/nn/construction.h>
#include <transformers/utils/nn/layer_norm.h>
#include <transformers/utils/pytorch_utils.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <string>

#include "utils/nn/internal/matrix_rows.h"

namespace transformers {
namespace {

struct NormChecks {
  std::mutex mutex;
  std::map<std::string, std::function<bool(const torch::nn::Module&)>, std::less<>> by_class;
};

NormChecks& norm_checks() {
  static NormChecks checks;
  return checks;
}

/// Rows or columns of a parameter as a new tensor with memory of its own.
at::Tensor kept(const at::Tensor& parameter, int64_t dim, const at::Tensor& index) {
  return parameter.detach().index_select(dim, index.to(parameter.device(), at::kLong)).contiguous();
}

void check_index(const at::Tensor& index, int64_t size, int64_t dim) {
  TORCH_CHECK(dim == 0 || dim == 1, "a weight is pruned along dim 0 or 1, got ", dim);
  TORCH_CHECK(index.defined() && index.dim() == 1 && at::isIntegralType(index.scalar_type(), /*includeBool=*/false),
              "the index of what to keep must be a list of integers");
  TORCH_CHECK(index.numel() > 0, "the index of what to keep is empty: nothing would be left");
  const auto [least, most] = at::aminmax(index);
  TORCH_CHECK(least.item<int64_t>() >= 0 && most.item<int64_t>() < size, "the index must be in [0, ", size,
              "), got values from ", least.item<int64_t>(), " to ", most.item<int64_t>());
  TORCH_CHECK(std::get<0>(at::_unique(index)).numel() == index.numel(), "the index holds a position twice");
}

/// The method of a quantised layer holds its weight; the tensor in its place has no values.
void check_has_weight(const LinearImpl& layer) {
  TORCH_CHECK(layer.method() == nullptr || !layer.weight.is_meta(),
              "a layer whose weight is quantised cannot be pruned; dequantize it first");
}

struct Parameters {
  at::Tensor weight, bias;
};

/// output_dim: the dimension of the output features in the weight; the bias is narrowed only in that dimension.
Parameters pruned(const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& index, int64_t dim,
                  int64_t output_dim) {
  check_index(index, weight.size(dim == 0 || dim == 1 ? dim : 0), dim);
  Parameters parameters{.weight = kept(weight, dim, index), .bias = {}};
  if (bias.defined()) {
    parameters.bias = dim == output_dim ? kept(bias, 0, index) : bias.detach().clone();
  }
  return parameters;
}

}  // namespace

void LayerNormLayers::add(std::string_view name, Check check) {
  auto& checks = norm_checks();
  const std::lock_guard lock(checks.mutex);
  checks.by_class.emplace(name, std::move(check));
}

bool LayerNormLayers::contains(const torch::nn::Module& module) {
  if (dynamic_cast<const torch::nn::LayerNormImpl*>(&module) != nullptr) {
    return true;
  }
  auto& checks = norm_checks();
  const std::lock_guard lock(checks.mutex);
  return std::any_of(checks.by_class.begin(), checks.by_class.end(),
                     [&](const auto& entry) { return entry.second(module); });
}

at::Tensor detail::softmax_backward(const at::Tensor& grad_output, const at::Tensor& output, int64_t dim,
                                    at::ScalarType input_dtype) {
  return at::_softmax_backward_data(grad_output, output, dim, input_dtype);
}

Conv1DImpl::Conv1DImpl(int64_t nf, int64_t nx) : nf_(nf) {
  const auto& construction = construction_options();
  const auto options = at::TensorOptions().dtype(construction.dtype).device(construction.device);
  weight = register_parameter("weight", at::empty({nx, nf}, options));
  bias = register_parameter("bias", at::empty({nf}, options));
  if (construction.initialize && construction.device != c10::kMeta) {
    const at::NoGradGuard no_grad;
    weight.normal_(0.0, 0.02);
    bias.zero_();
  }
}

// Not const: torch::nn::Sequential takes no const forward.
// NOLINTNEXTLINE(readability-make-member-function-const)
torch::Tensor Conv1DImpl::forward(const torch::Tensor& x) {
  return rows_in_shape(at::addmm(bias, rows_of(x), weight), x.sizes());
}

void Conv1DImpl::set_parameters(torch::Tensor new_weight, torch::Tensor new_bias) {
  TORCH_CHECK(new_weight.dim() == 2 && new_bias.sizes() == at::IntArrayRef{new_weight.size(1)},
              "Conv1D: weight must be [nx, nf] and bias [nf], got ", new_weight.sizes(), " and ", new_bias.sizes());
  nf_ = new_weight.size(1);
  weight = new_weight.detach().requires_grad_();
  bias = new_bias.detach().requires_grad_();
  parameters_["weight"] = weight;
  parameters_["bias"] = bias;
}

Linear prune_linear_layer(const Linear& layer, const at::Tensor& index, int64_t dim) {
  check_has_weight(*layer);
  const auto parameters = pruned(layer->weight, layer->bias, index, dim, /*output_dim=*/0);
  return Linear(parameters.weight, parameters.bias);
}

torch::nn::Linear prune_linear_layer(const torch::nn::Linear& layer, const at::Tensor& index, int64_t dim) {
  const auto parameters = pruned(layer->weight, layer->bias, index, dim, /*output_dim=*/0);
  torch::nn::Linear smaller(
      torch::nn::LinearOptions(parameters.weight.size(1), parameters.weight.size(0)).bias(parameters.bias.defined()));
  smaller->weight.set_data(parameters.weight);
  if (parameters.bias.defined()) {
    smaller->bias.set_data(parameters.bias);
  }
  return smaller;
}

Conv1D prune_conv1d_layer(const Conv1D& layer, const at::Tensor& index, int64_t dim) {
  const auto parameters = pruned(layer->weight, layer->bias, index, dim, /*output_dim=*/1);
  const ConstructionGuard guard({.device = c10::kMeta, .initialize = false});
  Conv1D smaller(1, 1);
  smaller->set_parameters(parameters.weight, parameters.bias);
  return smaller;
}

std::shared_ptr<torch::nn::Module> prune_layer(const torch::nn::Module& layer, const at::Tensor& index,
                                               std::optional<int64_t> dim) {
  if (const auto* own = dynamic_cast<const LinearImpl*>(&layer)) {
    check_has_weight(*own);
  }
  if (const auto* linear = dynamic_cast<const torch::nn::LinearImpl*>(&layer)) {
    auto parameters = pruned(linear->weight, linear->bias, index, dim.value_or(0), /*output_dim=*/0);
    return std::make_shared<LinearImpl>(std::move(parameters.weight), std::move(parameters.bias));
  }
  const auto* conv = dynamic_cast<const Conv1DImpl*>(&layer);
  TORCH_CHECK(conv != nullptr, "prune_layer takes a Linear or a Conv1D, got a ", layer.name());
  const auto parameters = pruned(conv->weight, conv->bias, index, dim.value_or(1), /*output_dim=*/1);
  const ConstructionGuard guard({.device = c10::kMeta, .initialize = false});
  auto smaller = std::make_shared<Conv1DImpl>(1, 1);
  smaller->set_parameters(parameters.weight, parameters.bias);
  return smaller;
}

std::pair<std::set<int64_t>, at::Tensor> find_pruneable_heads_and_indices(
    const std::vector<int64_t>& heads, int64_t n_heads, int64_t head_size,
    const std::set<int64_t>& already_pruned_heads) {
  TORCH_CHECK(n_heads > 0 && head_size > 0, "n_heads and head_size must be above 0, got ", n_heads, " and ", head_size);
  std::set<int64_t> left(heads.begin(), heads.end());
  for (const auto pruned_head : already_pruned_heads) {
    left.erase(pruned_head);
  }
  auto mask = at::ones({n_heads, head_size}, at::kBool);
  for (const auto head : left) {
    const auto below = std::distance(already_pruned_heads.begin(), already_pruned_heads.lower_bound(head));
    const auto present = head - below;
    TORCH_CHECK(head >= 0 && present < n_heads, "head ", head, " is not among the ", n_heads, " heads that are left");
    mask[present].fill_(false);
  }
  return {left, mask.flatten().nonzero().flatten()};
}

at::Tensor apply_chunking_to_forward(const std::function<at::Tensor(const std::vector<at::Tensor>&)>& forward_fn,
                                     int64_t chunk_size, int64_t chunk_dim, const std::vector<at::Tensor>& tensors) {
  TORCH_CHECK(!tensors.empty(), "apply_chunking_to_forward needs at least one tensor");
  if (chunk_size <= 0) {
    return forward_fn(tensors);
  }
  const auto size = tensors.front().size(chunk_dim);
  for (const auto& tensor : tensors) {
    TORCH_CHECK(tensor.size(chunk_dim) == size, "all tensors must have ", size, " elements along dim ", chunk_dim,
                ", got one with ", tensor.size(chunk_dim));
  }
  TORCH_CHECK(size % chunk_size == 0, "the size along dim ", chunk_dim, ", ", size,
              ", must be a multiple of the chunk size ", chunk_size);
  std::vector<at::Tensor> outputs;
  for (int64_t begin = 0; begin < size; begin += chunk_size) {
    std::vector<at::Tensor> parts;
    for (const auto& tensor : tensors) {
      parts.push_back(tensor.narrow(chunk_dim, begin, chunk_size));
    }
    outputs.push_back(forward_fn(parts));
  }
  return at::cat(outputs, chunk_dim);
}

std::vector<at::Tensor> meshgrid(const std::vector<at::Tensor>& tensors, std::string_view indexing) {
  return at::meshgrid(tensors, c10::string_view(indexing.data(), indexing.size()));
}

TensorStorageId id_tensor_storage(const at::Tensor& tensor) {
  const auto& storage = tensor.storage();
  return {tensor.device(), storage.data(), storage.nbytes()};
}

at::Tensor isin(const at::Tensor& elements, const at::Tensor& test_elements) {
  return at::isin(elements, test_elements);
}

at::Tensor isin(const at::Tensor& elements, int64_t test_element) { return elements.eq(test_element); }

}  // namespace transformers
