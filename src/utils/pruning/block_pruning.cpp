#include "utils/pruning/block_pruning.h"

#include <c10/util/Exception.h>

#include "utils/pruning/prune_checks.h"

namespace transformers {
namespace {

namespace nn = torch::nn;

ChannelMask channel_mask(const LayerMasks& masks) {
  const auto weight = masks.keep.find("weight");
  TORCH_CHECK(weight != masks.keep.end() && masks.keep.size() == 1, "'", masks.layer,
              "': only the mask of its weight can be pruned, got one of '", masks.keep.begin()->first, "'");
  return {weight->second, masks.prune_bias};
}

std::vector<LSTMLayerMask> lstm_masks(const nn::LSTMImpl& lstm, const LayerMasks& masks) {
  std::string missing;
  const auto mask_of = [&](const std::string& name) {
    const auto found = masks.keep.find(name);
    missing += found == masks.keep.end() ? (missing.empty() ? "" : ", ") + name : "";
    return found == masks.keep.end() ? at::Tensor() : found->second;
  };
  std::vector<LSTMLayerMask> layers;
  for (int64_t layer = 0; layer < lstm.options.num_layers(); ++layer) {
    const auto number = std::to_string(layer);
    auto ih = mask_of("weight_ih_l" + number);
    layers.push_back({std::move(ih), mask_of("weight_hh_l" + number)});
  }
  TORCH_CHECK(missing.empty(), "'", masks.layer,
              "': all weights of an LSTM must be masked to prune it, not masked: ", missing);
  return layers;
}

void check_block(const PruneBlock& block, const LayerMasks& masks) {
  const auto whose = "'" + block.name + "'";
  if (const auto* lstm = dynamic_cast<const nn::LSTMImpl*>(block.layer.get())) {
    check_lstm(whose, *lstm, lstm_masks(*lstm, masks), block.norm.get(),
               dynamic_cast<const nn::LinearImpl&>(*block.next));
  } else {
    check_channels(whose, *block.layer, channel_mask(masks), block.steps, block.next.get());
  }
}

PrunedParameters prune_lstm(const PruneBlock& block, nn::LSTMImpl& lstm, const LayerMasks& masks) {
  auto& linear = dynamic_cast<nn::LinearImpl&>(*block.next);
  return block.norm ? prune_lstm_output_layernorm_linear(lstm, lstm_masks(lstm, masks), *block.norm, linear)
                    : prune_lstm_output_linear(lstm, lstm_masks(lstm, masks), linear);
}

PrunedParameters prune_conv(const PruneBlock& block, nn::Conv2dImpl& conv, const ChannelMask& mask) {
  if (!block.next) {
    return prune_conv2d(conv, mask, block.steps);
  }
  if (auto* next = dynamic_cast<nn::Conv2dImpl*>(block.next.get())) {
    return prune_conv2d(conv, mask, block.steps, *next);
  }
  return prune_conv2d(conv, mask, block.steps, dynamic_cast<nn::LinearImpl&>(*block.next));
}

PrunedParameters prune_block(const PruneBlock& block, const LayerMasks& masks) {
  if (auto* lstm = dynamic_cast<nn::LSTMImpl*>(block.layer.get())) {
    return prune_lstm(block, *lstm, masks);
  }
  const auto mask = channel_mask(masks);
  if (auto* conv = dynamic_cast<nn::Conv2dImpl*>(block.layer.get())) {
    return prune_conv(block, *conv, mask);
  }
  auto& linear = dynamic_cast<nn::LinearImpl&>(*block.layer);
  return block.next ? prune_linear(linear, mask, block.steps, dynamic_cast<nn::LinearImpl&>(*block.next))
                    : prune_linear(linear, mask, block.steps);
}

/// Names of all modules that use a parameter.
using Owners = std::map<const void*, std::vector<std::string>>;

void check_unshared(const Owners& owners, const std::string& whose, const at::Tensor& parameter) {
  const auto found = owners.find(parameter.unsafeGetTensorImpl());
  TORCH_CHECK(found == owners.end() || found->second.size() == 1, "'", whose,
              "' cannot be pruned: a parameter of it or of what follows is shared by '", found->second.front(),
              "' and '", found->second.back(), "'");
}

void check_unshared(const Owners& owners, const std::string& whose, const nn::Module* module) {
  if (module == nullptr) {
    return;
  }
  for (const auto& parameter : module->named_parameters(/*recurse=*/false)) {
    check_unshared(owners, whose, parameter.value());
  }
}

/// A parameter that two modules use cannot be narrowed for one of them.
void check_unshared(const nn::Module& model, const std::vector<PruneBlock>& blocks) {
  Owners owners;
  for (const auto& parameter : model.named_parameters()) {
    owners[parameter.value().unsafeGetTensorImpl()].push_back(parameter.key());
  }
  for (const auto& block : blocks) {
    for (const nn::Module* module :
         std::initializer_list<const nn::Module*>{block.layer.get(), block.norm.get(), block.next.get()}) {
      check_unshared(owners, block.name, module);
    }
    for (const auto& step : block.steps) {
      check_unshared(owners, block.name, step.channel_weight());
    }
  }
}

}  // namespace

PrunedParameters prune_layers(const nn::Module& model, const std::vector<Chain>& chains,
                              const std::vector<LayerMasks>& layers) {
  std::vector<std::string> names;
  for (const auto& masks : layers) {
    names.push_back(masks.layer);
  }
  const auto blocks = match_blocks(model, chains, names);
  check_unshared(model, blocks);
  for (size_t i = 0; i < blocks.size(); ++i) {
    check_block(blocks[i], layers[i]);
  }
  PrunedParameters done;
  for (size_t i = 0; i < blocks.size(); ++i) {
    done.append(prune_block(blocks[i], layers[i]));
  }
  return done;
}

}  // namespace transformers
