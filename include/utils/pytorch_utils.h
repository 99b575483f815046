#pragma once

/// \file
/// HF's helpers around torch that belong to no other room: pruning of single layers, Conv1D, chunked forwards and the
/// list of layer norms. Pruning of whole models is in utils/model_pruning.
///
///     Linear layer(16, 8);
///     const auto smaller = prune_linear_layer(layer, torch::tensor({0, 2, 5}), /*dim=*/0);  // weight: [3, 16]

#include <c10/util/Exception.h>
#include <torch/version.h>
#include <transformers/export.h>
#include <transformers/utils/nn/linear.h>
#include <transformers/utils/nn/module.h>

#include <cstdint>
#include <functional>
#include <set>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Mirrors pytorch_utils.py, transformers 4.37.2, completely, with the version flags of 5.x. Deviation: pruned layers
// keep dtype and device; HF builds them in the default dtype.

/// The list of layer norm classes, to which training applies no weight decay.
class LayerNormLayers {
 public:
  /// Adds a class to the list, as families do for their own norms. Adding it twice has no effect.
  template <typename Norm>
  static void add() {
    add(typeid(Norm).name(),
        [](const torch::nn::Module& module) { return dynamic_cast<const Norm*>(&module) != nullptr; });
  }
  static bool contains(const torch::nn::Module& module);

 private:
  using Check = std::function<bool(const torch::nn::Module&)>;
  static void add(std::string_view name, Check check);
};

namespace detail {
constexpr bool torch_is_at_least(int major, int minor) {
  return TORCH_VERSION_MAJOR > major || (TORCH_VERSION_MAJOR == major && TORCH_VERSION_MINOR >= minor);
}
}  // namespace detail
inline constexpr bool is_torch_greater_or_equal_than_1_12 = detail::torch_is_at_least(1, 12);
inline constexpr bool is_torch_greater_or_equal_than_1_13 = detail::torch_is_at_least(1, 13);
inline constexpr bool is_torch_greater_or_equal_than_2_0 = detail::torch_is_at_least(2, 0);
inline constexpr bool is_torch_greater_or_equal_than_2_1 = detail::torch_is_at_least(2, 1);
inline constexpr bool is_torch_greater_or_equal_than_2_2 = detail::torch_is_at_least(2, 2);
inline constexpr bool is_torch_greater_or_equal_than_2_3 = detail::torch_is_at_least(2, 3);
inline constexpr bool is_torch_greater_or_equal_than_2_4 = detail::torch_is_at_least(2, 4);
inline constexpr bool is_torch_greater_or_equal_than_2_6 = detail::torch_is_at_least(2, 6);
inline constexpr bool is_torch_greater_or_equal_than_2_8 = detail::torch_is_at_least(2, 8);

/// Gradient of a softmax over its parent's `dim` from its output. parent: anything with a member `dim`,
/// torch::nn::Softmax, or its SoftmaxImpl.
template <typename Parent>
at::Tensor softmax_backward_data(const Parent& parent, const at::Tensor& grad_output, const at::Tensor& output);
/// The form of 4.37, which ignores `dim` for `parent.dim`. Of `self` only the dtype matters, as in Python: float16
/// beside float32 gradients gives float16, on CUDA alone; the CPU throws. Any other dtype that differs from the
/// gradient's has no effect.
template <typename Parent>
at::Tensor softmax_backward_data(const Parent& parent, const at::Tensor& grad_output, const at::Tensor& output,
                                 int64_t dim, const at::Tensor& self);

/// A linear layer with weight [nx, nf], as GPT-2 stores it: x · weight + bias. x: [..., nx] → [..., nf]. Weights are
/// initialised from N(0, 0.02), the bias with 0.
class Conv1DImpl : public Cloneable<Conv1DImpl> {
 public:
  Conv1DImpl(int64_t nf, int64_t nx);
  /// Does not change the layer; it is not const because torch::nn::Sequential requires a non-const forward.
  torch::Tensor forward(const torch::Tensor& x);
  auto members() { return std::tie(weight, bias); }

  /// Uses the given parameters without a copy.
  void set_parameters(torch::Tensor new_weight, torch::Tensor new_bias);

  torch::Tensor weight;  // [nx, nf]
  torch::Tensor bias;    // [nf]

 private:
  int64_t nf_;
};
TRANSFORMERS_MODULE(Conv1D);

/// A new layer with the listed rows (dim 0) or columns (dim 1) of the weight, in that order; the bias is indexed with
/// the rows and copied whole with the columns; a layer without a bias gets none. The new parameters require gradients
/// and keep dtype and device. index: integer [kept], neither empty nor out of range nor with a duplicate.
Linear prune_linear_layer(const Linear& layer, const at::Tensor& index, int64_t dim = 0);
torch::nn::Linear prune_linear_layer(const torch::nn::Linear& layer, const at::Tensor& index, int64_t dim = 0);
/// The same for Conv1D, whose outputs are columns: dim 1 indexes the bias, dim 0 copies it.
Conv1D prune_conv1d_layer(const Conv1D& layer, const at::Tensor& index, int64_t dim = 1);
/// Prunes output features by default: dim 0 of a Linear, dim 1 of a Conv1D. Throws, naming the class, for any other
/// layer.
std::shared_ptr<torch::nn::Module> prune_layer(const torch::nn::Module& layer, const at::Tensor& index,
                                               std::optional<int64_t> dim = std::nullopt);

/// Returns the heads that remain to be pruned (without those already pruned), and the kept positions of a projection as
/// int64. n_heads is the present number of heads; the index of each head is reduced by the number of pruned heads below
/// it.
std::pair<std::set<int64_t>, at::Tensor> find_pruneable_heads_and_indices(
    const std::vector<int64_t>& heads, int64_t n_heads, int64_t head_size,
    const std::set<int64_t>& already_pruned_heads);

/// A function that takes exactly these tensors, at least one, and returns a tensor.
template <typename Forward, typename... Tensors>
concept ChunkForward = sizeof...(Tensors) > 0 && (std::is_convertible_v<Tensors, at::Tensor> && ...) &&
                       std::is_invocable_r_v<at::Tensor, Forward, const Tensors&...>;

/// Calls forward_fn on pieces of `chunk_size` along `chunk_dim` and joins the results; for a chunk_size of 0 or below,
/// calls it once on the whole tensors. Saves memory where forward_fn treats positions independently. forward_fn takes
/// as many tensors as are passed, which the compiler checks; the form with a vector cannot be checked. Throws for no
/// tensors, sizes that differ along chunk_dim, and a size that chunk_size does not divide.
at::Tensor apply_chunking_to_forward(const std::function<at::Tensor(const std::vector<at::Tensor>&)>& forward_fn,
                                     int64_t chunk_size, int64_t chunk_dim, const std::vector<at::Tensor>& tensors);
template <typename Forward, typename... Tensors>
requires ChunkForward<Forward, Tensors...> at::Tensor apply_chunking_to_forward(Forward&& forward_fn,
                                                                                int64_t chunk_size, int64_t chunk_dim,
                                                                                const Tensors&... tensors) {
  const auto call = [&]<size_t... I>(const std::vector<at::Tensor>& parts, std::index_sequence<I...>) {
    return forward_fn(parts[I]...);
  };
  return apply_chunking_to_forward(
      std::function<at::Tensor(const std::vector<at::Tensor>&)>(
          [&](const std::vector<at::Tensor>& parts) { return call(parts, std::index_sequence_for<Tensors...>()); }),
      chunk_size, chunk_dim, std::vector<at::Tensor>{tensors...});
}

/// torch.meshgrid; indexing: "ij" or "xy".
std::vector<at::Tensor> meshgrid(const std::vector<at::Tensor>& tensors, std::string_view indexing = "ij");

/// Identifies the memory of a tensor by device, address and bytes. Views have the same id, and so do all tensors of the
/// same size on the meta device, where there are no addresses.
struct TensorStorageId {
  c10::Device device;
  const void* address;
  size_t bytes;
  bool operator==(const TensorStorageId&) const = default;
};
TensorStorageId id_tensor_storage(const at::Tensor& tensor);

/// Whether each element is among the test elements. Mirrors `isin_mps_friendly`; a scalar is a test element too.
at::Tensor isin(const at::Tensor& elements, const at::Tensor& test_elements);
at::Tensor isin(const at::Tensor& elements, int64_t test_element);

// --- implementation ---

namespace detail {
at::Tensor softmax_backward(const at::Tensor& grad_output, const at::Tensor& output, int64_t dim,
                            at::ScalarType input_dtype);

template <typename Parent>
int64_t softmax_dim(const Parent& parent) {
  if constexpr (requires { static_cast<int64_t>(parent.dim); }) {
    return parent.dim;
  } else if constexpr (requires { parent.options.dim(); }) {
    return parent.options.dim();
  } else {
    return parent->options.dim();
  }
}
}  // namespace detail

template <typename Parent>
at::Tensor softmax_backward_data(const Parent& parent, const at::Tensor& grad_output, const at::Tensor& output) {
  return detail::softmax_backward(grad_output, output, detail::softmax_dim(parent), output.scalar_type());
}

template <typename Parent>
at::Tensor softmax_backward_data(const Parent& parent, const at::Tensor& grad_output, const at::Tensor& output,
                                 int64_t /*dim*/, const at::Tensor& self) {
  return detail::softmax_backward(grad_output, output, detail::softmax_dim(parent), self.scalar_type());
}

}  // namespace transformers
