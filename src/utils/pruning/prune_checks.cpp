// The checks before a layer is narrowed: shapes of masks, plain layers, readers that fit, and functions between layers
// that treat each channel by itself, which is tested on random numbers.
#include "utils/pruning/prune_checks.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/randn.h>
#include <c10/util/Exception.h>
#include <transformers/utils/nn/linear.h>

#include <algorithm>
#include <iterator>

namespace transformers {
namespace {

namespace nn = torch::nn;

constexpr int64_t kGates = 4;

/// `keep` is bool [size] and keeps something.
void check_keep(const std::string& whose, const at::Tensor& keep, int64_t size) {
  const bool fits = keep.defined() && keep.scalar_type() == at::kBool && keep.dim() == 1 && keep.size(0) == size;
  TORCH_CHECK(fits, whose, ": a mask of its outputs must be bool of shape [", size, "], got ",
              keep.defined() ? c10::toString(keep.scalar_type()) : "none", " of shape ",
              keep.defined() ? keep.sizes() : at::IntArrayRef());
  TORCH_CHECK(keep.any().item<bool>(), whose, ": the mask hides all of its ", size, " outputs, at least one must stay");
}

void check_plain(const std::string& whose, const nn::Module& layer) {
  const auto* own = dynamic_cast<const LinearImpl*>(&layer);
  TORCH_CHECK(own == nullptr || own->method() == nullptr, whose,
              ": a Linear with its own linear method (packed, quantised, adapted) cannot be pruned; reset it first");
  const auto* conv = dynamic_cast<const nn::Conv2dImpl*>(&layer);
  TORCH_CHECK(conv == nullptr || conv->options.groups() == 1, whose, ": a Conv2d with groups cannot be pruned, got ",
              conv->options.groups(), " groups");
}

at::Tensor weight_of(const nn::Module& layer) {
  const auto* linear = dynamic_cast<const nn::LinearImpl*>(&layer);
  return linear != nullptr ? linear->weight : dynamic_cast<const nn::Conv2dImpl&>(layer).weight;
}

bool is_linear(const nn::Module& layer) { return dynamic_cast<const nn::LinearImpl*>(&layer) != nullptr; }

void check_reader(const std::string& whose, const nn::Module& first, const nn::Module& next) {
  check_plain(whose + ", the layer after it", next);
  const auto outputs = weight_of(first).size(0);
  const auto inputs = weight_of(next).size(1);
  const bool flattens = is_linear(next) && !is_linear(first);
  TORCH_CHECK(flattens || inputs == outputs, whose, ": the next layer must take its ", outputs, " outputs, it takes ",
              inputs);
  TORCH_CHECK(inputs % outputs == 0, whose, ": flattening its ", outputs, " channels cannot give the ", inputs,
              " features that the next layer takes");
}

/// The result of the caller's function for channels, [1, channels].
at::Tensor result_of(const std::string& whose, const ChannelStep& function, const at::Tensor& channels) {
  at::Tensor result;
  try {
    result = *function.constants(channels.clone());
  } catch (const c10::Error& error) {
    TORCH_CHECK(false, whose, ": a function after it must take any number of channels, of shape ", channels.sizes(),
                " it failed: ", error.what_without_backtrace());
  }
  const auto sizes = result.defined() ? result.sizes() : at::IntArrayRef();
  TORCH_CHECK(sizes == channels.sizes(), whose, ": a function after it must keep the shape, of ", channels.sizes(),
              " it made ", sizes);
  return result;
}

/// Kernels may round differently when there are fewer numbers.
double relative_precision(at::ScalarType dtype) {
  return dtype == at::kHalf ? 1e-3 : dtype == at::kBFloat16 ? 1.6e-2 : 1.3e-6;
}

/// If a function mixes channels, kept channels have other results without the removed ones, and the reverse.
void check_apart(const std::string& whose, const ChannelStep& function, const at::Tensor& keep,
                 const at::Tensor& channels) {
  const auto whole = result_of(whose, function, channels).to(at::kDouble);
  const auto relative = relative_precision(channels.scalar_type());
  for (const auto& some : {keep, keep.logical_not()}) {
    const auto places = some.nonzero().flatten();
    if (places.numel() > 0) {
      const auto alone = result_of(whose, function, channels.index_select(1, places)).to(at::kDouble);
      const bool is_same = at::allclose(alone, whole.index_select(1, places), relative, 1e-5, /*equal_nan=*/true);
      TORCH_CHECK(is_same, whose, ": a function after it must treat each channel by itself, it mixes them");
    }
  }
}

void check_function(const std::string& whose, const ChannelStep& function, const at::Tensor& keep,
                    const at::Tensor& weight) {
  auto generator = at::detail::createCPUGenerator(/*seed_val=*/1);
  const auto drawn = at::randn({1, weight.size(0)}, generator).to(weight.options());
  for (const auto& channels : {drawn, -drawn}) {
    check_apart(whose, function, keep.to(weight.device()), channels);
  }
}

/// The rows of each gate that are kept, of which every gate must have the same number.
int64_t kept_units(const std::string& whose, const at::Tensor& mask, int64_t hidden_size) {
  check_keep(whose, mask, kGates * hidden_size);
  const auto counts = mask.reshape({kGates, hidden_size}).sum(1).cpu();
  const auto units = counts[0].item<int64_t>();
  TORCH_CHECK(units > 0 && counts.eq(units).all().item<bool>(), whose,
              ": every gate must keep the same number of rows, at least one, got ", units, ", ",
              counts[1].item<int64_t>(), ", ", counts[2].item<int64_t>(), " and ", counts[3].item<int64_t>(),
              " of the gates i, f, g and o");
  return units;
}

void check_gates(const std::string& whose, const std::vector<LSTMLayerMask>& masks, int64_t hidden_size) {
  std::optional<int64_t> units;
  const auto check = [&](const char* weight, size_t layer, const at::Tensor& mask) {
    const auto name = whose + "." + weight + std::to_string(layer);
    const auto kept = kept_units(name, mask, hidden_size);
    TORCH_CHECK(units.value_or(kept) == kept, name, ": all weights of an LSTM must keep the same number of units, ",
                units.value_or(kept), " in those before it, got ", kept);
    units = kept;
  };
  for (size_t layer = 0; layer < masks.size(); ++layer) {
    check("weight_ih_l", layer, masks[layer].weight_ih);
    check("weight_hh_l", layer, masks[layer].weight_hh);
  }
}

}  // namespace

namespace {

/// Each tensor is narrowed for one module; a second module with the same tensor would no longer fit its neighbours.
void check_apart(const std::string& whose, const std::vector<at::Tensor>& parameters) {
  for (auto one = parameters.begin(); one != parameters.end(); ++one) {
    const bool is_shared = std::any_of(one + 1, parameters.end(), [&](const at::Tensor& other) {
      return one->is_same(other) || (one->numel() > 0 && one->is_alias_of(other));
    });
    TORCH_CHECK(!is_shared, whose,
                ": it and what follows must have parameters of their own, two of them are one tensor");
  }
}

void append(std::vector<at::Tensor>& parameters, std::initializer_list<at::Tensor> more) {
  std::copy_if(more.begin(), more.end(), std::back_inserter(parameters),
               [](const auto& part) { return part.defined(); });
}

/// The tensors that the layer computes with. They may differ from the registered ones: a tied weight is often only
/// assigned.
void append_layer(std::vector<at::Tensor>& parameters, const nn::Module& layer) {
  const auto* linear = dynamic_cast<const nn::LinearImpl*>(&layer);
  append(parameters,
         {weight_of(layer), linear != nullptr ? linear->bias : dynamic_cast<const nn::Conv2dImpl&>(layer).bias});
}

}  // namespace

void check_channels(const std::string& whose, const nn::Module& first, const ChannelMask& mask,
                    const std::vector<ChannelStep>& steps, const nn::Module* next) {
  check_plain(whose, first);
  const auto channels = weight_of(first).size(0);
  check_keep(whose, mask.keep, channels);
  std::vector<at::Tensor> parameters;
  append_layer(parameters, first);
  for (const auto& step : steps) {
    const auto& weight = step.channel_weight();
    append(parameters, {weight});
    TORCH_CHECK(!weight.defined() || weight.size(0) == channels, whose,
                ": a PReLU after it must have 1 parameter or one for each of ", channels, " channels, got ",
                weight.defined() ? weight.size(0) : 0);
    if (step.is_function()) {
      check_function(whose, step, mask.keep, weight_of(first));
    }
  }
  if (next != nullptr) {
    check_reader(whose, first, *next);
    append_layer(parameters, *next);
  }
  check_apart(whose, parameters);
}

void check_lstm(const std::string& whose, const nn::LSTMImpl& lstm, const std::vector<LSTMLayerMask>& masks,
                const nn::LayerNormImpl* layernorm, const nn::LinearImpl& linear) {
  const auto& options = lstm.options;
  const auto hidden_size = options.hidden_size();
  TORCH_CHECK(!options.bidirectional() && options.proj_size() == 0, whose,
              ": a bidirectional LSTM or one with projections cannot be pruned");
  TORCH_CHECK(masks.size() == static_cast<size_t>(options.num_layers()), whose, ": an LSTM of ", options.num_layers(),
              " layers needs masks for all of them, got ", masks.size());
  check_gates(whose, masks, hidden_size);
  check_plain(whose + ", the layer after it", linear);
  TORCH_CHECK(linear.weight.size(1) == hidden_size, whose, ": the Linear after it must take its ", hidden_size,
              " outputs, it takes ", linear.weight.size(1));
  TORCH_CHECK(layernorm == nullptr || layernorm->options.normalized_shape() == std::vector<int64_t>{hidden_size}, whose,
              ": the LayerNorm after it must be over its ", hidden_size, " outputs");
  auto parameters = lstm.all_weights();
  if (layernorm != nullptr) {
    append(parameters, {layernorm->weight, layernorm->bias});
  }
  append_layer(parameters, linear);
  check_apart(whose, parameters);
}

}  // namespace transformers
