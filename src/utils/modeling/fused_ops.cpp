#include "utils/modeling/internal/fused_ops.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <transformers/utils/modeling/losses.h>
#include <transformers/utils/modeling/rope.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numbers>

#include "utils/modeling/fused_kernels.h"
#include "utils/nn/internal/parallel_for.h"

namespace transformers::fused {
namespace {

using kernels::BFloat16Bits;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

template <typename T>
T* data(const at::Tensor& tensor) {
  if constexpr (std::is_same_v<T, BFloat16Bits>) {
    return reinterpret_cast<BFloat16Bits*>(tensor.data_ptr<at::BFloat16>());
  } else {
    return tensor.data_ptr<T>();
  }
}

/// Calls `loop` with the type that the kernels know the tensor's elements by.
template <typename Loop>
void with_type_of(const at::Tensor& tensor, const Loop& loop) {
  tensor.scalar_type() == at::kFloat ? loop(float{}) : loop(BFloat16Bits{});
}

/// Calls `loop` with ranges of `count` pieces of `size` elements, over all threads.
template <typename Loop>
void in_parallel(int64_t count, int64_t size, const Loop& loop) {
  constexpr int64_t kElementsWorthAThread = 1 << 14;
  parallel_for(0, count, std::max<int64_t>(1, kElementsWorthAThread / std::max<int64_t>(1, size)), loop);
}

/// Gradients that themselves have gradients: through the composed steps, from the saved inputs on.
variable_list composed_gradients(const std::function<at::Tensor()>& composed, const variable_list& inputs,
                                 const at::Tensor& grad) {
  variable_list wanted;
  std::copy_if(inputs.begin(), inputs.end(), std::back_inserter(wanted),
               [](const at::Tensor& input) { return input.requires_grad(); });
  const auto found = torch::autograd::grad({composed()}, wanted, {grad}, /*retain_graph=*/true, /*create_graph=*/true);
  variable_list gradients;
  auto next = found.begin();
  for (const auto& input : inputs) {
    gradients.push_back(input.requires_grad() ? *next++ : at::Tensor());
  }
  return gradients;
}

at::Tensor gelu_new_of(const at::Tensor& x) {
  const auto inner = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * at::pow(x, 3.0));
  return 0.5 * x * (1.0 + at::tanh(inner));
}

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, double eps) {
    const auto columns = weight.size(0), rows = x.numel() / columns;
    auto y = at::empty_like(x);
    const auto scales = at::empty({rows}, x.options().dtype(at::kFloat));
    with_type_of(x, [&]<typename T>(T) {
      in_parallel(rows, columns, [&](int64_t begin, int64_t end) {
        kernels::rms_norm<T>(data<T>(x), data<T>(weight), columns, eps, begin, end, data<T>(y), data<float>(scales));
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
      auto gradients =
          composed_gradients([&] { return weight * at::rms_norm(x, weight.sizes(), {}, eps); }, {x, weight}, grads[0]);
      gradients.emplace_back();
      return gradients;
    }
    const auto grad = grads[0].contiguous();
    const auto columns = weight.size(0), rows = x.numel() / columns;
    auto grad_x = at::empty_like(x);
    // Each thread adds up its own rows.
    const auto sums = at::zeros({at::get_num_threads(), columns}, scales.options());
    with_type_of(x, [&]<typename T>(T) {
      in_parallel(rows, columns, [&](int64_t begin, int64_t end) {
        kernels::rms_norm_backward<T>(data<T>(grad), data<T>(x), data<T>(weight), data<float>(scales), columns, begin,
                                      end, data<T>(grad_x), data<float>(sums) + at::get_thread_num() * columns);
      });
    });
    return {grad_x, sums.sum(0).to(weight.scalar_type()), at::Tensor()};
  }
};

struct SiluAndMul : torch::autograd::Function<SiluAndMul> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& up) {
    auto y = at::empty_like(gate);
    with_type_of(gate, [&]<typename T>(T) {
      in_parallel(gate.numel(), 1, [&](int64_t begin, int64_t end) {
        kernels::silu_and_mul<T>(data<T>(gate), data<T>(up), begin, end, data<T>(y));
      });
    });
    context->save_for_backward({gate, up});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const auto &gate = saved[0], &up = saved[1];
    if (at::GradMode::is_enabled()) {
      return composed_gradients([&] { return at::silu(gate) * up; }, {gate, up}, grads[0]);
    }
    const auto grad = grads[0].contiguous();
    auto grad_gate = at::empty_like(gate), grad_up = at::empty_like(up);
    with_type_of(gate, [&]<typename T>(T) {
      in_parallel(gate.numel(), 1, [&](int64_t begin, int64_t end) {
        kernels::silu_and_mul_backward<T>(data<T>(grad), data<T>(gate), data<T>(up), begin, end, data<T>(grad_gate),
                                          data<T>(grad_up));
      });
    });
    return {grad_gate, grad_up};
  }
};

struct GeluNew : torch::autograd::Function<GeluNew> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x) {
    auto y = at::empty_like(x);
    with_type_of(x, [&]<typename T>(T) {
      in_parallel(x.numel(), 1,
                  [&](int64_t begin, int64_t end) { kernels::gelu_new<T>(data<T>(x), begin, end, data<T>(y)); });
    });
    context->save_for_backward({x});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto x = context->get_saved_variables().front();
    if (at::GradMode::is_enabled()) {
      return composed_gradients([&] { return gelu_new_of(x); }, {x}, grads[0]);
    }
    const auto grad = grads[0].contiguous();
    auto grad_x = at::empty_like(x);
    with_type_of(x, [&]<typename T>(T) {
      in_parallel(x.numel(), 1, [&](int64_t begin, int64_t end) {
        kernels::gelu_new_backward<T>(data<T>(grad), data<T>(x), begin, end, data<T>(grad_x));
      });
    });
    return {grad_x};
  }
};

/// The vectors of x [batch, a, b, dim] and what lies beside them.
struct Rotation {
  int64_t position_dim;  // of x: 1 or 2
  bool halves;           // else neighbours

  at::Tensor composed(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) const {
    if (halves) {
      return x * cos.unsqueeze(1) + rotate_half(x) * sin.unsqueeze(1);
    }
    const auto for_pairs = [](const at::Tensor& table) { return table.unsqueeze(2).repeat_interleave(2, 3); };
    const auto rotary_dim = 2 * cos.size(2);
    const auto part = x.narrow(-1, 0, rotary_dim);
    const auto rotated = part * for_pairs(cos) + rotate_every_two(part) * for_pairs(sin);
    return at::cat({rotated, x.narrow(-1, rotary_dim, x.size(-1) - rotary_dim)}, -1);
  }

  /// A tensor of x's shape and, where x is dense, of its strides.
  at::Tensor apply(const at::Tensor& given, const at::Tensor& cos, const at::Tensor& sin, bool back) const {
    const auto x = given.stride(-1) == 1 ? given : given.contiguous();
    auto y = at::empty_like(x);
    if (y.stride(-1) != 1) {
      y = at::empty_like(x, at::MemoryFormat::Contiguous);
    }
    with_type_of(x, [&]<typename T>(T) {
      in_parallel(x.size(0) * x.size(1) * x.size(2), x.size(3), [&](int64_t begin, int64_t end) {
        for (auto i = begin; i < end; ++i) {
          rotate<T>(x, cos, sin, i, back, y);
        }
      });
    });
    return y;
  }

 private:
  template <typename T>
  void rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, int64_t i, bool back,
              const at::Tensor& y) const {
    const std::array place{i / (x.size(1) * x.size(2)), i / x.size(2) % x.size(1), i % x.size(2)};
    const auto start = [&](const at::Tensor& tensor) {
      return data<T>(tensor) + place[0] * tensor.stride(0) + place[1] * tensor.stride(1) + place[2] * tensor.stride(2);
    };
    const auto row = ((cos.size(0) == 1 ? 0 : place[0]) * cos.size(1) + place[position_dim]) * cos.size(2);
    if (halves) {
      kernels::rotate_halves<T>(start(x), data<T>(cos) + row, data<T>(sin) + row, x.size(3), back, start(y));
    } else {
      kernels::rotate_neighbours<T>(start(x), data<T>(cos) + row, data<T>(sin) + row, 2 * cos.size(2), x.size(3), back,
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
    // Linear in x, so that any x will do.
    const auto x = at::zeros_like(grads[0]).requires_grad_();
    auto gradients = composed_gradients([&] { return rotation.composed(x, saved[0], saved[1]); }, {x}, grads[0]);
    gradients.resize(4);
    return gradients;
  }
};

}  // namespace

bool applies(at::TensorList tensors) {
  const auto dtype = tensors.front().scalar_type();
  return (dtype == at::kFloat || dtype == at::kBFloat16) &&
         std::all_of(tensors.begin(), tensors.end(), [&](const at::Tensor& tensor) {
           return tensor.is_cpu() && tensor.layout() == at::kStrided && tensor.scalar_type() == dtype;
         });
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return RmsNorm::apply(x.contiguous(), weight.contiguous(), eps);
}

at::Tensor silu_and_mul(const at::Tensor& gate, const at::Tensor& up) {
  return SiluAndMul::apply(gate.contiguous(), up.contiguous());
}

at::Tensor gelu_new(const at::Tensor& x) { return GeluNew::apply(x.contiguous()); }

at::Tensor rotate_halves(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  return Rotate::apply(x, cos.contiguous(), sin.contiguous(), Rotation{.position_dim = 2, .halves = true});
}

at::Tensor rotate_neighbours(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  return Rotate::apply(x, cos.contiguous(), sin.contiguous(), Rotation{.position_dim = 1, .halves = false});
}

at::Tensor cross_entropy_(at::Tensor& logits, const at::Tensor& labels, double smoothing, double share) {
  const auto columns = logits.size(1);
  const auto targets = labels.contiguous();
  const auto [low, high] = at::aminmax(targets.where(targets.ne(kIgnoreIndex), 0));
  TORCH_CHECK(low.item<int64_t>() >= 0 && high.item<int64_t>() < columns, "labels must be ", kIgnoreIndex,
              " or in [0, ", columns, "), got values from ", low.item<int64_t>(), " to ", high.item<int64_t>());
  auto losses = at::empty({logits.size(0)}, logits.options().dtype(at::kFloat));
  const kernels::CrossEntropyRule rule{kIgnoreIndex, smoothing, share};
  with_type_of(logits, [&]<typename T>(T) {
    in_parallel(logits.size(0), columns, [&](int64_t begin, int64_t end) {
      kernels::cross_entropy<T>(data<T>(logits), data<int64_t>(targets), columns, rule, begin, end,
                                data<float>(losses));
    });
  });
  return losses;
}

void add_(const at::Tensor& sum, const at::Tensor& addend) {
  with_type_of(addend, [&]<typename T>(T) {
    in_parallel(sum.numel(), 1,
                [&](int64_t begin, int64_t end) { kernels::add<T>(data<T>(addend), begin, end, data<float>(sum)); });
  });
}

}  // namespace transformers::fused
