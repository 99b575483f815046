#pragma once

#include <torch/nn/module.h>

#include <functional>
#include <string>

namespace transformers {

/// A function that writes a model, or the active adapter of a PeftModel, into a folder; empty for modules of other
/// classes. The model must outlive it.
std::function<void(const std::string& folder)> model_writer(torch::nn::Module& model);

/// A function that loads the weights of such a folder into the model; empty for modules of other classes. Throws,
/// naming the tensor, on one that is missing or of another shape.
std::function<void(const std::string& folder)> model_reader(torch::nn::Module& model);

}  // namespace transformers
