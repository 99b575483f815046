#pragma once

#include <torch/nn/module.h>
#include <transformers/export.h>
#include <transformers/utils/pruning/prune_functions.h>

#include <memory>
#include <string>
#include <variant>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Mirrors the patterns of base_structured_sparsifier.py and match_utils.py, torch 2.11.0. Python traces a model. That
// is not possible in C++, so the layer that reads an output is known in two ways only: from the order of modules in a
// `torch::nn::Sequential`, or from a chain that the caller writes down.

/// Ends a chain whose last layer is an output of the model.
struct ChainOutput {};
inline constexpr ChainOutput kOutput{};

/// `flatten(x, 1)`, called as a function by the model.
struct ChainFlatten {};
inline constexpr ChainFlatten kFlatten{};

/// A module, by its name in the model; a function that the model calls: an activation, a pooling of
/// torch::nn::functional (by its options) or `kFlatten`; or the end of the model.
using ChainStep = std::variant<std::string, ElementwiseFunction, ChainOutput, ChainFlatten,
                               torch::nn::functional::MaxPool2dFuncOptions, torch::nn::functional::AvgPool2dFuncOptions,
                               torch::nn::functional::AdaptiveMaxPool2dFuncOptions,
                               torch::nn::functional::AdaptiveAvgPool2dFuncOptions>;

/// Modules and functions in the order in which one tensor passes through them; only the next step may read each output:
/// {"conv1", at::relu, MaxPool2dFuncOptions(2), "conv2", "pool", kFlatten, "linear"}. The last layer of one chain may
/// be the first of another.
using Chain = std::vector<ChainStep>;

/// The chains formed by the `torch::nn::Sequential` modules of a model; a nested `StackSequential` is part of the outer
/// chain. Classes that derive from Sequential are ignored, as they may use their modules in any way. A chain ends in
/// the model's output only if the model itself is a Sequential; otherwise the reader of its last layer is not known. Do
/// not use these chains for a model that calls single members of a Sequential, as that cannot be detected.
std::vector<Chain> sequential_chains(const torch::nn::Module& model);

/// A layer, the steps that its output passes through, and the layer that reads it.
struct PruneBlock {
  std::string name{};
  std::shared_ptr<torch::nn::Module> layer{};
  std::vector<ChannelStep> steps{};
  std::shared_ptr<torch::nn::LayerNormImpl> norm{};  // only after an LSTM
  std::string next_name{};
  std::shared_ptr<torch::nn::Module> next{};  // null: the output of the model
};

/// The block of each named layer, in the order of the chains. Supported are Linear → steps → Linear or output, Conv2d →
/// steps → Conv2d or output, Conv2d → steps → Flatten → activations → Linear, LSTM → [LayerNorm] → Linear, where steps
/// are the modules that `ChannelStep::of` supports, or functions in a chain: poolings, flattening, and any others,
/// which count as activations. Poolings may follow convolutions only. Throws, naming the module, for a name that the
/// model does not have, and for a layer that is in no chain, is read by two modules, or is followed by anything else.
std::vector<PruneBlock> match_blocks(const torch::nn::Module& model, const std::vector<Chain>& chains,
                                     const std::vector<std::string>& layers);

}  // namespace transformers
