// Semantics: bitsandbytes 0.50.2, functional.py and optim/adamw.py. Deviations: a block of zeros is stored as zeros,
// and the search for the nearest value is exact (the original's CPU kernel may be off by one code near 0).
#include <ATen/ATen.h>
#include <transformers/utils/optim/adamw_8bit.h>

#include <algorithm>
#include <cmath>

#include "utils/optim/adamw_options.h"
#include "utils/optim/quantized_state.h"

namespace transformers {
namespace {

using torch::optim::AdamWOptions;

constexpr int64_t kBlock = kQuantizedBlock;
constexpr int64_t kSmallest8bit = 4096;
/// The number of elements that are held in fp32 at a time; a multiple of the block.
constexpr int64_t kPiece = int64_t{1} << 18;

/// The values of the 256 codes, and the borders between them where the nearest value changes.
struct Code {
  at::Tensor values, borders;  // float32 [256], [255]

  Code(bool is_signed, at::Device device) {
    static const at::Tensor kSigned = create_dynamic_map(true), kUnsigned = create_dynamic_map(false);
    values = (is_signed ? kSigned : kUnsigned).to(device);
    borders = (values.slice(0, 1) + values.slice(0, 0, -1)) / 2;
  }
};

/// [blocks, 256]; a last block is filled up with zeros.
at::Tensor in_blocks(const at::Tensor& flat) {
  const auto missing = (kBlock - flat.size(0) % kBlock) % kBlock;
  return (missing == 0 ? flat : at::constant_pad_nd(flat, {0, missing})).view({-1, kBlock});
}

/// bytes: uint8 [n]; absmax: float32 [blocks]. Returns float32 [n].
at::Tensor dequantized(const at::Tensor& bytes, const at::Tensor& absmax, const Code& code) {
  const auto values = code.values.index_select(0, bytes.to(at::kInt));
  return (in_blocks(values) * absmax.unsqueeze(1)).view(-1).slice(0, 0, bytes.size(0));
}

void quantize(const at::Tensor& values, const Code& code, at::Tensor bytes, at::Tensor absmax) {
  const auto blocks = in_blocks(values);
  absmax.copy_(blocks.abs().amax(1));
  const auto scale = at::where(absmax > 0, absmax, 1.0F).unsqueeze(1);
  const auto nearest = at::bucketize(blocks / scale, code.borders, /*out_int32=*/true);
  bytes.copy_(nearest.view(-1).slice(0, 0, bytes.size(0)));
}

struct Step {
  double number;  // the first is 1
  const AdamWOptions& options;
};

/// One step on fp32 tensors of one shape.
void adamw_(at::Tensor& value, const at::Tensor& grad, at::Tensor& exp_avg, at::Tensor& exp_avg_sq, const Step& step) {
  const auto& options = step.options;
  const auto [beta1, beta2] = options.betas();
  exp_avg.mul_(beta1).add_(grad, 1 - beta1);
  exp_avg_sq.mul_(beta2).addcmul_(grad, grad, 1 - beta2);
  const auto correction = std::sqrt(1 - std::pow(beta2, step.number));
  const auto denominator = (exp_avg_sq.sqrt() / correction).add_(options.eps());
  value.mul_(1 - options.lr() * options.weight_decay());
  value.addcdiv_(exp_avg, denominator, -options.lr() / (1 - std::pow(beta1, step.number)));
}

at::Tensor& zeros_at_first(ParamState& state, const char* name, at::IntArrayRef sizes,
                           const at::TensorOptions& options) {
  auto& tensor = state.tensors[name];
  if (!tensor.defined()) {
    tensor = at::zeros(sizes, options);
  }
  return tensor;
}

/// A parameter and its gradient as vectors, [elements]. The state has the parameter's own sizes.
struct FlatParameter {
  at::Tensor value, grad;
  at::IntArrayRef sizes;
  ParamState& state;
};

/// The update piece by piece, so that only one piece is in fp32 at a time.
void update_8bit(const FlatParameter& parameter, const Step& step) {
  const auto& [flat, grad, sizes, state] = parameter;
  const auto elements = flat.size(0), blocks = (elements + kBlock - 1) / kBlock;
  const auto bytes = flat.options().dtype(at::kByte), scales = flat.options().dtype(at::kFloat);
  const auto state1 = zeros_at_first(state, "state1", sizes, bytes).view(-1);
  const auto state2 = zeros_at_first(state, "state2", sizes, bytes).view(-1);
  const auto absmax1 = zeros_at_first(state, "absmax1", {blocks}, scales);
  const auto absmax2 = zeros_at_first(state, "absmax2", {blocks}, scales);
  const Code code1(true, flat.device()), code2(false, flat.device());
  for (int64_t first = 0; first < elements; first += kPiece) {
    const auto piece = [&](const at::Tensor& whole) { return whole.slice(0, first, first + kPiece); };
    const auto scale = [&](const at::Tensor& whole) {
      return whole.slice(0, first / kBlock, (first + kPiece) / kBlock);
    };
    auto value = piece(flat).to(at::kFloat);
    auto exp_avg = dequantized(piece(state1), scale(absmax1), code1);
    auto exp_avg_sq = dequantized(piece(state2), scale(absmax2), code2);
    adamw_(value, piece(grad).to(at::kFloat), exp_avg, exp_avg_sq, step);
    piece(flat).copy_(value);
    quantize(exp_avg, code1, piece(state1), scale(absmax1));
    quantize(exp_avg_sq, code2, piece(state2), scale(absmax2));
  }
}

void update_fp32(const FlatParameter& parameter, const Step& step) {
  const auto& [flat, grad, sizes, state] = parameter;
  const auto fp32 = flat.options().dtype(at::kFloat);
  auto exp_avg = zeros_at_first(state, "exp_avg", sizes, fp32).view(-1);
  auto exp_avg_sq = zeros_at_first(state, "exp_avg_sq", sizes, fp32).view(-1);
  auto value = flat.to(at::kFloat);
  adamw_(value, grad.to(at::kFloat), exp_avg, exp_avg_sq, step);
  flat.copy_(value);
}

const AdamWOptions& checked(const AdamWOptions& options) {
  TORCH_CHECK(!options.amsgrad(), "AdamW8bit: amsgrad is not supported");
  return checked_adamw_options(options, "AdamW8bit");
}

}  // namespace

at::Tensor create_dynamic_map(bool is_signed) {
  constexpr int64_t kExponents = 7;
  std::vector<at::Tensor> parts{at::zeros({1}), at::ones({1})};
  for (int64_t i = 0; i < kExponents; ++i) {
    const auto borders = at::linspace(0.1, 1, (int64_t{1} << (is_signed ? i : i + 1)) + 1);
    const auto means = (borders.slice(0, 0, -1) + borders.slice(0, 1)) / 2.0;
    const auto scaled = means * std::pow(10.0, static_cast<double>(i - (kExponents - 1)));
    parts.push_back(scaled);
    if (is_signed) {
      parts.push_back(-scaled);
    }
  }
  return std::get<0>(at::cat(parts).sort());
}

AdamW8bit::AdamW8bit(const std::vector<torch::optim::OptimizerParamGroup>& groups, AdamWOptions defaults,
                     LowPrecision low_precision)
    : Optimizer(groups, std::make_unique<AdamWOptions>(checked(defaults)), low_precision) {}

AdamW8bit::AdamW8bit(std::vector<at::Tensor> parameters, AdamWOptions defaults, LowPrecision low_precision)
    : AdamW8bit({torch::optim::OptimizerParamGroup(std::move(parameters))}, std::move(defaults), low_precision) {}

void AdamW8bit::update(Batch& batch) {
  const auto& options = static_cast<const AdamWOptions&>(batch.options);
  for (size_t i = 0; i < batch.values.size(); ++i) {
    auto& state = *batch.states[i];
    const auto& value = batch.values[i];
    const auto counter = zeros_at_first(state, "step", {}, at::TensorOptions(at::kFloat)).add_(1);
    const auto contiguous = value.contiguous();
    const auto update_flat = value.numel() < kSmallest8bit ? update_fp32 : update_8bit;
    update_flat({.value = contiguous.view(-1),
                 .grad = batch.grads[i].contiguous().view(-1),
                 .sizes = value.sizes(),
                 .state = state},
                {.number = counter.item<double>(), .options = options});
    if (!contiguous.is_same(value)) {
      value.copy_(contiguous);
    }
  }
}

}  // namespace transformers
