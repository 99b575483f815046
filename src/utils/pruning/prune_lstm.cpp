#include <ATen/ops/cat.h>
#include <transformers/utils/pruning/prune_functions.h>

#include "utils/pruning/narrowing.h"
#include "utils/pruning/prune_checks.h"

namespace transformers {
namespace {

namespace nn = torch::nn;

constexpr int64_t kGates = 4;  // i, f, g, o, stacked in the rows of every weight

std::string weight_name(const char* kind, size_t layer) { return std::string(kind) + "_l" + std::to_string(layer); }

at::Tensor output_gate(const at::Tensor& mask) { return mask.chunk(kGates)[kGates - 1]; }

/// Keeps, in the square matrix of each gate, the kept rows and the columns of the same numbers.
TensorSelection gate_squares(const at::Tensor& mask) {
  return [mask](const at::Tensor& weight) {
    const auto gates = weight.chunk(kGates);
    const auto keeps = mask.chunk(kGates);
    std::vector<at::Tensor> kept;
    for (size_t gate = 0; gate < gates.size(); ++gate) {
      kept.push_back(kept_along(1, keeps[gate])(kept_along(0, keeps[gate])(gates[gate])));
    }
    return at::cat(kept);
  };
}

void narrow_layer(nn::LSTMImpl& lstm, size_t layer, const LSTMLayerMask& mask, PrunedParameters& done) {
  const auto parameters = lstm.named_parameters(/*recurse=*/false);
  const auto narrow = [&](const char* kind, const TensorSelection& select) {
    if (const auto* parameter = parameters.find(weight_name(kind, layer))) {
      use_up_mask(*parameter);
      narrow_and_note(*parameter, select, done);
    }
  };
  narrow("weight_ih", kept_along(0, mask.weight_ih));
  narrow("bias_ih", kept_along(0, mask.weight_ih));
  narrow("weight_hh", gate_squares(mask.weight_hh));
  narrow("bias_hh", kept_along(0, mask.weight_hh));
}

/// The next layer reads fewer inputs.
void narrow_inputs(nn::LSTMImpl& lstm, size_t layer, const at::Tensor& keep, PrunedParameters& done) {
  const auto name = weight_name("weight_ih", layer);
  narrow_and_note(lstm.named_parameters(/*recurse=*/false)[name], kept_along(1, keep), done);
}

void narrow_reader(nn::LayerNormImpl* layernorm, nn::LinearImpl& linear, const at::Tensor& keep,
                   PrunedParameters& done) {
  narrow_and_note(linear.weight, kept_along(1, keep), done);
  linear.options.in_features(linear.weight.size(1));
  if (layernorm == nullptr) {
    return;
  }
  layernorm->options.normalized_shape({linear.weight.size(1)});
  for (const auto& parameter : layernorm->named_parameters(/*recurse=*/false)) {
    narrow_and_note(parameter.value(), kept_along(0, keep), done);
  }
}

PrunedParameters prune_lstm(nn::LSTMImpl& lstm, const std::vector<LSTMLayerMask>& masks, nn::LayerNormImpl* layernorm,
                            nn::LinearImpl& linear) {
  check_lstm(lstm.name(), lstm, masks, layernorm, linear);
  PrunedParameters done;
  for (size_t layer = 0; layer < masks.size(); ++layer) {
    narrow_layer(lstm, layer, masks[layer], done);
    if (layer + 1 < masks.size()) {
      narrow_inputs(lstm, layer + 1, output_gate(masks[layer].weight_hh), done);
    }
  }
  const auto units = output_gate(masks.back().weight_hh).sum().item<int64_t>();
  lstm.options.hidden_size(units);
  lstm.options_base.hidden_size(units);
  // The weights are the same tensor objects, so the LSTM's list of them is still valid; but cuDNN wants them in one
  // block.
  lstm.flatten_parameters();
  narrow_reader(layernorm, linear, output_gate(masks.back().weight_hh), done);
  return done;
}

}  // namespace

PrunedParameters prune_lstm_output_linear(nn::LSTMImpl& lstm, const std::vector<LSTMLayerMask>& masks,
                                          nn::LinearImpl& linear) {
  return prune_lstm(lstm, masks, nullptr, linear);
}

PrunedParameters prune_lstm_output_layernorm_linear(nn::LSTMImpl& lstm, const std::vector<LSTMLayerMask>& masks,
                                                    nn::LayerNormImpl& layernorm, nn::LinearImpl& linear) {
  return prune_lstm(lstm, masks, &layernorm, linear);
}

}  // namespace transformers
