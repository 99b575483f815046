#include "utils/pruning/layers.h"

#include <functional>
#include <map>

namespace transformers::testing {
namespace {

namespace nn = torch::nn;
using Json = nlohmann::json;
using Add = std::function<void(nn::Sequential&, const Json&)>;

template <typename Holder>
Add plain() {
  return [](nn::Sequential& model, const Json&) { model->push_back(Holder()); };
}

const std::map<std::string, Add>& activations() {
  static const std::map<std::string, Add> table = {
      {"celu", plain<nn::CELU>()},
      {"elu", plain<nn::ELU>()},
      {"gelu", plain<nn::GELU>()},
      {"hardshrink", plain<nn::Hardshrink>()},
      {"hardtanh", plain<nn::Hardtanh>()},
      {"leakyrelu", plain<nn::LeakyReLU>()},
      {"logsigmoid", plain<nn::LogSigmoid>()},
      {"mish", plain<nn::Mish>()},
      {"prelu", plain<nn::PReLU>()},
      {"relu", plain<nn::ReLU>()},
      {"relu6", plain<nn::ReLU6>()},
      {"rrelu", plain<nn::RReLU>()},
      {"selu", plain<nn::SELU>()},
      {"sigmoid", plain<nn::Sigmoid>()},
      {"silu", plain<nn::SiLU>()},
      {"softplus", plain<nn::Softplus>()},
      {"softsign", plain<nn::Softsign>()},
      {"tanh", plain<nn::Tanh>()},
      {"tanhshrink", plain<nn::Tanhshrink>()},
  };
  return table;
}

void add_linear(nn::Sequential& model, const Json& layer) {
  model->push_back(nn::Linear(nn::LinearOptions(layer[1], layer[2]).bias(layer[3])));
}

void add_conv2d(nn::Sequential& model, const Json& layer) {
  const auto padding = layer[4].get<int64_t>();
  model->push_back(nn::Conv2d(
      nn::Conv2dOptions(layer[1], layer[2], layer[3].get<int64_t>()).padding(padding).bias(layer[5].get<bool>())));
}

const std::map<std::string, Add>& others() {
  static const std::map<std::string, Add> table = {
      {"linear", add_linear},
      {"dropout", plain<nn::Dropout>()},
      {"channel_prelu",
       [](nn::Sequential& model, const Json& layer) {
         nn::PReLU prelu(nn::PReLUOptions().num_parameters(layer[1].get<int64_t>()));
         prelu->weight.detach().uniform_(-1, 1);
         model->push_back(prelu);
       }},
      {"conv2d", add_conv2d},
      {"flatten", plain<nn::Flatten>()},
      {"max_pool2d",
       [](nn::Sequential& model, const Json& layer) {
         const auto padding = layer[2].get<int64_t>();
         model->push_back(nn::MaxPool2d(nn::MaxPool2dOptions(layer[1].get<int64_t>()).padding(padding)));
       }},
      {"avg_pool2d",
       [](nn::Sequential& model, const Json& layer) {
         const auto padding = layer[2].get<int64_t>();
         model->push_back(nn::AvgPool2d(nn::AvgPool2dOptions(layer[1].get<int64_t>()).padding(padding)));
       }},
      {"adaptive_avg_pool2d",
       [](nn::Sequential& model, const Json& layer) {
         model->push_back(nn::AdaptiveAvgPool2d(nn::AdaptiveAvgPool2dOptions(layer[1].get<int64_t>())));
       }},
      {"adaptive_max_pool2d",
       [](nn::Sequential& model, const Json& layer) {
         model->push_back(nn::AdaptiveMaxPool2d(nn::AdaptiveMaxPool2dOptions(layer[1].get<int64_t>())));
       }},
  };
  return table;
}

}  // namespace

nn::Sequential sequential_of(const Json& layers) {
  nn::Sequential model;
  for (const auto& layer : layers) {
    const auto kind = layer[0].get<std::string>();
    const auto& table = activations().contains(kind) ? activations() : others();
    table.at(kind)(model, layer);
  }
  model->eval();
  return model;
}

const std::vector<std::string>& activation_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const auto& entry : activations()) {
      all.push_back(entry.first);
    }
    return all;
  }();
  return names;
}

OwnLinearsImpl::OwnLinearsImpl(const Json& layers) {
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto name = std::to_string(i);
    chain.emplace_back(name);
    if (layers[i][0] == "linear") {
      Linear linear(layers[i][1].get<int64_t>(), layers[i][2].get<int64_t>(), layers[i][3].get<bool>());
      register_module(name, linear.ptr());
      steps_.emplace_back([linear](const at::Tensor& input) mutable { return linear->forward(input); });
    } else {
      auto other = sequential_of(Json::array({layers[i]}));
      register_module(name, other->ptr(0));
      steps_.emplace_back([other](const at::Tensor& input) mutable { return other->forward(input); });
    }
  }
  chain.emplace_back(kOutput);
  eval();
}

torch::Tensor OwnLinearsImpl::forward(const torch::Tensor& input) const {
  auto output = input;
  for (const auto& step : steps_) {
    output = step(output);
  }
  return output;
}

LSTMLinearImpl::LSTMLinearImpl(int64_t inputs, int64_t hidden, int64_t outputs, int64_t layers, bool with_norm) {
  lstm = register_module("lstm", nn::LSTM(nn::LSTMOptions(inputs, hidden).num_layers(layers)));
  if (with_norm) {
    norm = register_module("norm", nn::LayerNorm(nn::LayerNormOptions({hidden})));
  }
  linear = register_module("linear", nn::Linear(hidden, outputs));
}

torch::Tensor LSTMLinearImpl::forward(const torch::Tensor& input) {
  auto output = std::get<0>(lstm(input));
  return linear(norm.is_empty() ? output : norm(output));
}

StateDict copy_of_state(const nn::Module& module) {
  StateDict copies;
  for (const auto& entry : state_dict(module)) {
    copies.insert(entry.key(), entry.value().clone());
  }
  return copies;
}

}  // namespace transformers::testing
