#pragma once

#include <torch/nn/module.h>
#include <transformers/export.h>
#include <transformers/utils/pruning/prune_functions.h>

#include <memory>
#include <string>
#include <variant>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Mirrors the patterns of base_structured_sparsifier.py and match_utils.py, torch 2.11.0. Python traces a model; C++
// has nothing to trace with, so what reads a layer's output is known in two ways only: the order of modules inside a
// `torch::nn::Sequential`, or a chain that the caller writes down.

/// Ends a chain whose last layer is an output of the model.
struct ChainOutput {};
inline constexpr ChainOutput kOutput{};

/// `flatten(x, 1)`, called as a function.
struct ChainFlatten {};
inline constexpr ChainFlatten kFlatten{};

/// A module by its name in the model, or what the model calls as a function: an activation, a pooling of
/// torch::nn::functional by its options, `kFlatten`; or the end.
using ChainStep = std::variant<std::string, ElementwiseFunction, ChainOutput, ChainFlatten,
                               torch::nn::functional::MaxPool2dFuncOptions, torch::nn::functional::AvgPool2dFuncOptions,
                               torch::nn::functional::AdaptiveMaxPool2dFuncOptions,
                               torch::nn::functional::AdaptiveAvgPool2dFuncOptions>;

/// Modules and functions in the order in which one tensor goes through them, each output read by the next step alone:
/// {"conv1", at::relu, MaxPool2dFuncOptions(2), "conv2", "pool", kFlatten, "linear"}. Chains may overlap in the layer
/// that ends one and begins another.
using Chain = std::vector<ChainStep>;

/// The chains that `torch::nn::Sequential` modules of a model are, a `StackSequential` inside as part of the outer. A
/// class that derives from Sequential may do anything with its modules: it is none. Only a model that is a Sequential
/// itself ends in its output; what reads other ends is not known. What else the model does with modules inside is not
/// known either: a model that calls single members of a Sequential must not use these.
std::vector<Chain> sequential_chains(const torch::nn::Module& model);

/// A layer, what its output goes through, and the layer that reads it.
struct PruneBlock {
  std::string name{};
  std::shared_ptr<torch::nn::Module> layer{};
  std::vector<ChannelStep> steps{};
  std::shared_ptr<torch::nn::LayerNormImpl> norm{};  // only after an LSTM
  std::string next_name{};
  std::shared_ptr<torch::nn::Module> next{};  // null: the output of the model
};

/// The block of each named layer, in the order of the chains. Supported are
///   Linear → steps → Linear or output,
///   Conv2d → steps → Conv2d or output, Conv2d → steps → Flatten → activations → Linear,
///   LSTM → [LayerNorm] → Linear,
/// where steps are what `ChannelStep::of` knows, poolings and flattening also as functions of a chain, of which all
/// others count as activations, and poolings follow convolutions only. Throws, naming the module, for a name that the
/// model does not have, for a layer that is in no chain, that is read by two modules, or that is followed by something
/// else.
std::vector<PruneBlock> match_blocks(const torch::nn::Module& model, const std::vector<Chain>& chains,
                                     const std::vector<std::string>& layers);

}  // namespace transformers
