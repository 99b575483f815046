// The autograd functions that use the kernels, then the choice between them and the composed operations. An autograd
// function saves its inputs (the norm also one scale for each row) and computes the rest again in its backward, so that
// training keeps few tensors.
#include "utils/modeling/internal/functional.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <transformers/utils/modeling/losses.h>

#include <algorithm>
#include <array>
#include <functional>

#include "utils/kernels/kernels.h"
#include "utils/modeling/composed.h"
#include "utils/nn/internal/parallel_for.h"

namespace transformers::functional {
namespace {

using kernels::BFloat16Bits;
using kernels::TrainingKernels;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Whether kernels are switched on and there are some for these tensors: all must be float32, or all bfloat16, and on
/// the CPU.
bool have_kernels(at::TensorList tensors) {
  const auto dtype = tensors.front().scalar_type();
  return kernels::enabled() && (dtype == at::kFloat || dtype == at::kBFloat16) &&
         std::all_of(tensors.begin(), tensors.end(), [&](const at::Tensor& tensor) {
           return tensor.is_cpu() && tensor.layout() == at::kStrided && tensor.scalar_type() == dtype;
         });
}

template <typename T>
T* data(const at::Tensor& tensor) {
  if constexpr (std::is_same_v<T, BFloat16Bits>) {
    return reinterpret_cast<BFloat16Bits*>(tensor.data_ptr<at::BFloat16>());
  } else {
    return tensor.data_ptr<T>();
  }
}

/// Calls `run` with the kernels for the tensor's elements.
template <typename Run>
void with_kernels_of(const at::Tensor& tensor, const Run& run) {
  tensor.scalar_type() == at::kFloat ? run(kernels::training_kernels<float>())
                                     : run(kernels::training_kernels<BFloat16Bits>());
}

/// Calls `loop` with ranges of `count` pieces of `size` elements, over all threads.
template <typename Loop>
void in_parallel(int64_t count, int64_t size, const Loop& loop) {
  constexpr int64_t kElementsWorthAThread = 1 << 14;
  parallel_for(0, count, std::max<int64_t>(1, kElementsWorthAThread / std::max<int64_t>(1, size)), loop);
}

/// Computes gradients that themselves have gradients, through the composed operations on the saved inputs.
variable_list gradients_through(const std::function<at::Tensor()>& steps, const variable_list& inputs,
                                const at::Tensor& grad) {
  variable_list wanted;
  std::copy_if(inputs.begin(), inputs.end(), std::back_inserter(wanted),
               [](const at::Tensor& input) { return input.requires_grad(); });
  const auto found = torch::autograd::grad({steps()}, wanted, {grad}, /*retain_graph=*/true, /*create_graph=*/true);
  variable_list gradients;
  auto next = found.begin();
  for (const auto& input : inputs) {
    gradients.push_back(input.requires_grad() ? *next++ : at::Tensor());
  }
  return gradients;
}

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, double eps) {
    const auto columns = weight.size(0), rows = x.numel() / columns;
    auto y = at::empty_like(x);
    const auto scales = at::empty({rows}, x.options().dtype(at::kFloat));
    with_kernels_of(x, [&]<typename T>(const TrainingKernels<T>& table) {
      in_parallel(rows, columns, [&](int64_t begin, int64_t end) {
        table.rms_norm({.x = data<T>(x) + begin * columns,
                        .weight = data<T>(weight),
                        .rows = end - begin,
                        .columns = columns,
                        .eps = eps,
                        .y = data<T>(y) + begin * columns,
                        .scales = data<float>(scales) + begin});
      });
    });
    context->save_for_backward({x, weight, scales});
    context->saved_data["eps"] = eps;
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &scales = saved[2];
    if (at::GradMode::is_enabled()) {
      const auto eps = context->saved_data["eps"].toDouble();
      auto gradients = gradients_through([&] { return composed::rms_norm(x, weight, eps); }, {x, weight}, grads[0]);
      gradients.emplace_back();
      return gradients;
    }
    const auto grad = grads[0].contiguous();
    const auto columns = weight.size(0), rows = x.numel() / columns;
    auto grad_x = at::empty_like(x);
    // Each thread sums its own rows.
    const auto sums = at::zeros({at::get_num_threads(), columns}, scales.options());
    with_kernels_of(x, [&]<typename T>(const TrainingKernels<T>& table) {
      in_parallel(rows, columns, [&](int64_t begin, int64_t end) {
        table.rms_norm_backward({.grad = data<T>(grad) + begin * columns,
                                 .x = data<T>(x) + begin * columns,
                                 .weight = data<T>(weight),
                                 .scales = data<float>(scales) + begin,
                                 .rows = end - begin,
                                 .columns = columns,
                                 .grad_x = data<T>(grad_x) + begin * columns,
                                 .grad_weight = data<float>(sums) + at::get_thread_num() * columns});
      });
    });
    return {grad_x, sums.sum(0).to(weight.scalar_type()), at::Tensor()};
  }
};

struct SiluAndMul : torch::autograd::Function<SiluAndMul> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& up) {
    auto y = at::empty_like(gate);
    with_kernels_of(gate, [&]<typename T>(const TrainingKernels<T>& table) {
      in_parallel(gate.numel(), 1, [&](int64_t begin, int64_t end) {
        table.silu_and_mul(data<T>(gate) + begin, data<T>(up) + begin, end - begin, data<T>(y) + begin);
      });
    });
    context->save_for_backward({gate, up});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const auto &gate = saved[0], &up = saved[1];
    if (at::GradMode::is_enabled()) {
      return gradients_through([&] { return composed::silu_and_mul(gate, up); }, {gate, up}, grads[0]);
    }
    const auto grad = grads[0].contiguous();
    auto grad_gate = at::empty_like(gate), grad_up = at::empty_like(up);
    with_kernels_of(gate, [&]<typename T>(const TrainingKernels<T>& table) {
      in_parallel(gate.numel(), 1, [&](int64_t begin, int64_t end) {
        table.silu_and_mul_backward(data<T>(grad) + begin, data<T>(gate) + begin, data<T>(up) + begin, end - begin,
                                    data<T>(grad_gate) + begin, data<T>(grad_up) + begin);
      });
    });
    return {grad_gate, grad_up};
  }
};

struct GeluNew : torch::autograd::Function<GeluNew> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x) {
    auto y = at::empty_like(x);
    with_kernels_of(x, [&]<typename T>(const TrainingKernels<T>& table) {
      in_parallel(x.numel(), 1, [&](int64_t begin, int64_t end) {
        table.gelu_new(data<T>(x) + begin, end - begin, data<T>(y) + begin);
      });
    });
    context->save_for_backward({x});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto x = context->get_saved_variables().front();
    if (at::GradMode::is_enabled()) {
      return gradients_through([&] { return composed::gelu_new(x); }, {x}, grads[0]);
    }
    const auto grad = grads[0].contiguous();
    auto grad_x = at::empty_like(x);
    with_kernels_of(x, [&]<typename T>(const TrainingKernels<T>& table) {
      in_parallel(x.numel(), 1, [&](int64_t begin, int64_t end) {
        table.gelu_new_backward(data<T>(grad) + begin, data<T>(x) + begin, end - begin, data<T>(grad_x) + begin);
      });
    });
    return {grad_x};
  }
};

/// How the vectors of x [batch, a, b, dim] are rotated.
struct Rotation {
  int64_t position_dim;  // of x: 1 or 2
  bool halves;           // else interleaved

  at::Tensor composed(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) const {
    return halves ? composed::rotate_halves(x, cos, sin) : composed::rotate_interleaved(x, cos, sin);
  }

  /// A tensor of x's shape and, where x is dense, of its strides.
  at::Tensor apply(const at::Tensor& given, const at::Tensor& cos, const at::Tensor& sin, bool back) const {
    const auto x = given.stride(-1) == 1 ? given : given.contiguous();
    auto y = at::empty_like(x);
    if (y.stride(-1) != 1) {
      y = at::empty_like(x, at::MemoryFormat::Contiguous);
    }
    with_kernels_of(x, [&]<typename T>(const TrainingKernels<T>& table) {
      in_parallel(x.size(0) * x.size(1) * x.size(2), x.size(3), [&](int64_t begin, int64_t end) {
        for (auto i = begin; i < end; ++i) {
          rotate(table, {.x = x, .cos = cos, .sin = sin, .y = y, .back = back}, i);
        }
      });
    });
    return y;
  }

 private:
  struct Operands {
    const at::Tensor &x, &cos, &sin, &y;
    bool back;
  };

  /// Rotates vector `i` of x into y.
  template <typename T>
  void rotate(const TrainingKernels<T>& table, const Operands& operands, int64_t i) const {
    const auto& [x, cos, sin, y, back] = operands;
    const std::array place{i / (x.size(1) * x.size(2)), i / x.size(2) % x.size(1), i % x.size(2)};
    const auto start = [&](const at::Tensor& tensor) {
      return data<T>(tensor) + place[0] * tensor.stride(0) + place[1] * tensor.stride(1) + place[2] * tensor.stride(2);
    };
    const auto row = ((cos.size(0) == 1 ? 0 : place[0]) * cos.size(1) + place[position_dim]) * cos.size(2);
    if (halves) {
      table.rotate_halves(start(x), data<T>(cos) + row, data<T>(sin) + row, x.size(3), back, start(y));
    } else {
      table.rotate_interleaved(start(x), data<T>(cos) + row, data<T>(sin) + row, 2 * cos.size(2), x.size(3), back,
                               start(y));
    }
  }
};

struct Rotate : torch::autograd::Function<Rotate> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                            const Rotation& rotation) {
    context->save_for_backward({cos, sin});
    context->saved_data["position_dim"] = rotation.position_dim;
    context->saved_data["halves"] = rotation.halves;
    return rotation.apply(x, cos, sin, /*back=*/false);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const Rotation rotation{context->saved_data["position_dim"].toInt(), context->saved_data["halves"].toBool()};
    if (!at::GradMode::is_enabled()) {
      return {rotation.apply(grads[0], saved[0], saved[1], /*back=*/true), at::Tensor(), at::Tensor(), at::Tensor()};
    }
    // The rotation is linear in x, so its gradient does not depend on the value of x.
    const auto x = at::zeros_like(grads[0]).requires_grad_();
    auto gradients = gradients_through([&] { return rotation.composed(x, saved[0], saved[1]); }, {x}, grads[0]);
    gradients.resize(4);
    return gradients;
  }
};

at::Tensor cross_entropy_by_kernel_(at::Tensor& logits, const at::Tensor& labels, double smoothing, double share) {
  const auto columns = logits.size(1);
  const auto targets = labels.contiguous();
  const auto [low, high] = at::aminmax(targets.where(targets.ne(kIgnoreIndex), 0));
  TORCH_CHECK(low.item<int64_t>() >= 0 && high.item<int64_t>() < columns, "labels must be ", kIgnoreIndex,
              " or in [0, ", columns, "), got values from ", low.item<int64_t>(), " to ", high.item<int64_t>());
  auto losses = at::empty({logits.size(0)}, logits.options().dtype(at::kFloat));
  const kernels::CrossEntropyRule rule{kIgnoreIndex, smoothing, share};
  with_kernels_of(logits, [&]<typename T>(const TrainingKernels<T>& table) {
    in_parallel(logits.size(0), columns, [&](int64_t begin, int64_t end) {
      table.cross_entropy(data<T>(logits) + begin * columns, data<int64_t>(targets) + begin, end - begin, columns, rule,
                          data<float>(losses) + begin);
    });
  });
  return losses;
}

bool is_last_owner(const at::Tensor& tensor) { return tensor.use_count() == 1 && tensor.storage().use_count() == 1; }

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, bool training) {
  return training && have_kernels({x, weight}) ? RmsNorm::apply(x.contiguous(), weight.contiguous(), eps)
                                               : composed::rms_norm(x, weight, eps);
}

at::Tensor silu_and_mul(at::Tensor gate, const at::Tensor& up, bool training) {
  if (training && have_kernels({gate, up})) {
    return SiluAndMul::apply(gate.contiguous(), up.contiguous());
  }
  if (!at::GradMode::is_enabled() && is_last_owner(gate) && gate.scalar_type() == up.scalar_type()) {
    return at::silu_(gate).mul_(up);
  }
  return composed::silu_and_mul(gate, up);
}

at::Tensor gelu_new(const at::Tensor& x, bool training) {
  return training && have_kernels({x}) ? GeluNew::apply(x.contiguous()) : composed::gelu_new(x);
}

at::Tensor rotate_halves(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool training) {
  if (training && have_kernels({x, cos, sin})) {
    return Rotate::apply(x, cos.contiguous(), sin.contiguous(), Rotation{.position_dim = 2, .halves = true});
  }
  return composed::rotate_halves(x, cos, sin);
}

at::Tensor rotate_interleaved(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool training) {
  if (training && have_kernels({x, cos, sin})) {
    return Rotate::apply(x, cos.contiguous(), sin.contiguous(), Rotation{.position_dim = 1, .halves = false});
  }
  return composed::rotate_interleaved(x, cos, sin);
}

at::Tensor cross_entropy_(at::Tensor& logits, const at::Tensor& labels, double smoothing, const at::Tensor& share) {
  if (have_kernels({logits})) {
    return cross_entropy_by_kernel_(logits, labels, smoothing, share.item<double>());
  }
  logits = logits.to(at::kFloat);
  return composed::cross_entropy_(logits, labels, smoothing, share);
}

void add_(at::Tensor& sum, const at::Tensor& addend) {
  const bool is_plain = sum.is_contiguous() && addend.is_contiguous() && sum.sizes() == addend.sizes();
  if (!is_plain || !sum.is_cpu() || sum.scalar_type() != at::kFloat || !have_kernels({addend})) {
    sum.add_(addend);
    return;
  }
  with_kernels_of(addend, [&]<typename T>(const TrainingKernels<T>& table) {
    in_parallel(sum.numel(), 1, [&](int64_t begin, int64_t end) {
      table.add(data<T>(addend) + begin, end - begin, data<float>(sum) + begin);
    });
  });
}

}  // namespace transformers::functional
