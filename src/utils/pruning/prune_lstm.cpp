#include <ATen/ops/cat.h>
#include <c10/util/Exception.h>
#include <transformers/utils/nn/linear.h>
#include <transformers/utils/pruning/prune_functions.h>

#include "utils/pruning/narrowing.h"

namespace transformers {
namespace {

namespace nn = torch::nn;

constexpr int64_t kGates = 4;  // i, f, g, o, stacked in the rows of every weight

/// The rows of each gate that stay; the same number in all of them.
int64_t kept_units(const std::string& whose, const at::Tensor& mask, int64_t hidden_size) {
  check_keep(whose, mask, kGates * hidden_size);
  const auto counts = mask.reshape({kGates, hidden_size}).sum(1).cpu();
  const auto units = counts[0].item<int64_t>();
  TORCH_CHECK(units > 0 && counts.eq(units).all().item<bool>(), whose,
              ": every gate must keep the same number of rows, at least one, got ", counts[0].item<int64_t>(), ", ",
              counts[1].item<int64_t>(), ", ", counts[2].item<int64_t>(), " and ", counts[3].item<int64_t>(),
              " of gates i, f, g and o");
  return units;
}

std::string weight_name(const char* kind, size_t layer) { return std::string(kind) + "_l" + std::to_string(layer); }

/// Checks the masks of all layers; returns the new hidden size.
int64_t check_masks(const nn::LSTMImpl& lstm, const std::vector<LSTMLayerMask>& masks) {
  const auto& options = lstm.options;
  TORCH_CHECK(!options.bidirectional() && options.proj_size() == 0,
              "a bidirectional LSTM or one with projections cannot be pruned");
  TORCH_CHECK(masks.size() == static_cast<size_t>(options.num_layers()), "an LSTM of ", options.num_layers(),
              " layers needs masks for all of them, got ", masks.size());
  std::optional<int64_t> units;
  const auto check = [&](const std::string& name, const at::Tensor& mask) {
    const auto kept = kept_units(name, mask, options.hidden_size());
    TORCH_CHECK(units.value_or(kept) == kept, name, ": all weights of an LSTM must keep the same number of units, ",
                units.value_or(kept), " in those before, got ", kept);
    units = kept;
  };
  for (size_t layer = 0; layer < masks.size(); ++layer) {
    check(weight_name("weight_ih", layer), masks[layer].weight_ih);
    check(weight_name("weight_hh", layer), masks[layer].weight_hh);
  }
  return *units;
}

void check_reader(const nn::LSTMImpl& lstm, const nn::LayerNormImpl* layernorm, const nn::LinearImpl& linear) {
  const auto hidden_size = lstm.options.hidden_size();
  TORCH_CHECK(linear.weight.size(1) == hidden_size, "the Linear must take the LSTM's ", hidden_size,
              " outputs, it takes ", linear.weight.size(1));
  const auto* own = dynamic_cast<const LinearImpl*>(&linear);
  TORCH_CHECK(
      own == nullptr || own->method() == nullptr,
      "a Linear with a method of its own (packed, quantised, adapted) cannot be pruned; set_method(nullptr) first");
  TORCH_CHECK(layernorm == nullptr || layernorm->options.normalized_shape() == std::vector<int64_t>{hidden_size},
              "the LayerNorm must be over the LSTM's ", hidden_size, " outputs");
}

at::Tensor output_gate(const at::Tensor& mask) { return mask.chunk(kGates)[kGates - 1]; }

/// Of each gate's square the kept rows and the same columns.
Selection gate_squares(const at::Tensor& mask) {
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
  const auto narrow = [&](const char* kind, const Selection& select) {
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
  const auto units = check_masks(lstm, masks);
  check_reader(lstm, layernorm, linear);
  PrunedParameters done;
  for (size_t layer = 0; layer < masks.size(); ++layer) {
    narrow_layer(lstm, layer, masks[layer], done);
    if (layer + 1 < masks.size()) {
      narrow_inputs(lstm, layer + 1, output_gate(masks[layer].weight_hh), done);
    }
  }
  lstm.options.hidden_size(units);
  lstm.options_base.hidden_size(units);
  // The weights are the same tensor objects, so the LSTM's flat list sees them; only cuDNN wants them in one piece.
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
