#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <transformers/utils/modeling/linear_cross_entropy.h>
#include <transformers/utils/modeling/losses.h>

#include <algorithm>

#include "utils/modeling/internal/chunked_cross_entropy.h"
#include "utils/modeling/internal/functional.h"
#include "utils/nn/internal/matmul.h"

namespace transformers {
namespace {

/// The operands of the matmul in the dtype in which it is computed: under autocast that of autocast.
struct Operands {
  at::Tensor hidden, weight, bias;
};

Operands operands(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& bias) {
  const auto device = hidden.device().type();
  const auto dtype =
      at::autocast::is_autocast_enabled(device) ? at::autocast::get_autocast_dtype(device) : weight.scalar_type();
  return {hidden.to(dtype), weight.to(dtype), bias.defined() ? bias.to(dtype) : bias};
}

struct Gradients {
  at::Tensor hidden, weight, bias;  // undefined where not wanted
};

Gradients gradients_where_wanted(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& bias) {
  const auto where_wanted = [&](const at::Tensor& tensor) {
    return tensor.defined() && tensor.requires_grad() ? at::empty_like(tensor) : at::Tensor();
  };
  Gradients gradients{where_wanted(hidden), where_wanted(weight), where_wanted(bias)};
  if (gradients.bias.defined()) {
    gradients.bias.zero_();
  }
  if (gradients.weight.defined() && hidden.size(0) == 0) {
    gradients.weight.zero_();
  }
  return gradients;
}

/// `part` holds the operands of a chunk whose first row is `row`.
void add_chunk(const at::Tensor& grad_logits, const Operands& part, int64_t row, Gradients& gradients) {
  if (gradients.hidden.defined()) {
    gradients.hidden.narrow(0, row, part.hidden.size(0)).copy_(functional::mm(grad_logits, part.weight));
  }
  if (gradients.weight.defined()) {
    const bool is_first = row == 0;
    if (gradients.weight.scalar_type() == grad_logits.scalar_type()) {
      functional::addmm_(gradients.weight, grad_logits.t(), part.hidden, /*adds=*/!is_first);
    } else if (is_first) {
      gradients.weight.copy_(functional::mm(grad_logits.t(), part.hidden));
    } else {
      functional::add_(gradients.weight, functional::mm(grad_logits.t(), part.hidden));
    }
  }
  if (gradients.bias.defined()) {
    gradients.bias.add_(grad_logits.sum(0));
  }
}

struct LinearCrossEntropy : torch::autograd::Function<LinearCrossEntropy> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& hidden,
                            const at::Tensor& weight, const std::optional<at::Tensor>& maybe_bias,
                            const at::Tensor& labels, const LinearCrossEntropyOptions& options,
                            const ChunkLoss& chunk_loss) {
    const auto bias = maybe_bias.value_or(at::Tensor());
    auto gradients = gradients_where_wanted(hidden, weight, bias);
    const auto whole = operands(hidden, weight, bias);
    const auto count = options.num_items_in_batch
                           ? at::full({}, *options.num_items_in_batch, labels.options().dtype(at::kFloat))
                           : labels.ne(kIgnoreIndex).sum();
    const auto share = count.to(at::kFloat).reciprocal();
    auto loss = at::zeros({}, hidden.options().dtype(at::kFloat));
    for (int64_t row = 0; row < hidden.size(0); row += options.chunk_rows) {
      const auto rows = std::min(options.chunk_rows, hidden.size(0) - row);
      const Operands part{whole.hidden.narrow(0, row, rows), whole.weight, whole.bias};
      auto logits = functional::linear(part.hidden, part.weight, part.bias, /*training=*/false);
      loss += chunk_loss(logits, labels.narrow(0, row, rows), share);
      add_chunk(logits.to(part.weight.scalar_type()), part, row, gradients);
    }
    context->save_for_backward({gradients.hidden, gradients.weight, gradients.bias});
    return loss * share;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    auto gradients = context->get_saved_variables();
    const auto& scale = grads.front();
    // If the loss is the last step of the graph, the scale is 1; asking a device for its value would make the CPU wait.
    const bool is_one = scale.is_cpu() && scale.item<double>() == 1;
    for (auto& gradient : gradients) {
      if (gradient.defined() && !is_one) {
        gradient = gradient * scale.to(gradient.scalar_type());
      }
    }
    return {gradients[0], gradients[1], gradients[2], at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor chunked_cross_entropy(const LinearCrossEntropyInputs& inputs, const LinearCrossEntropyOptions& options,
                                 const ChunkLoss& chunk_loss) {
  const auto& [hidden, weight, bias, labels] = inputs;
  TORCH_CHECK(hidden.dim() == 2 && labels.dim() == 1 && hidden.size(0) == labels.size(0),
              "linear_cross_entropy: hidden [rows, features] needs labels [rows], found ", hidden.sizes(), " and ",
              labels.sizes());
  TORCH_CHECK(options.chunk_rows > 0, "linear_cross_entropy: chunk_rows must be positive, got ", options.chunk_rows);
  // autograd accepts an absent tensor only as an empty optional.
  const auto maybe_bias = bias.defined() ? std::make_optional(bias) : std::nullopt;
  return LinearCrossEntropy::apply(hidden, weight, maybe_bias, labels, options, chunk_loss);
}

at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& bias,
                                const at::Tensor& labels, const LinearCrossEntropyOptions& options) {
  return chunked_cross_entropy(
      {.hidden = hidden, .weight = weight, .bias = bias, .labels = labels}, options,
      [&](at::Tensor& logits, const at::Tensor& chunk_labels, const at::Tensor& share) {
        return functional::cross_entropy_(logits, chunk_labels, options.label_smoothing, share).sum();
      });
}

}  // namespace transformers
