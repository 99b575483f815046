#include <ATen/ops/empty_like.h>
#include <transformers/utils/quantization/weight_only.h>

#include <algorithm>
#include <set>

namespace transformers {
namespace {

struct NamedLinear {
  std::string name;
  Linear linear;
};

std::vector<NamedLinear> linears_of(torch::nn::Module& module) {
  std::vector<NamedLinear> found;
  for (const auto& inner : module.named_modules(/*name_prefix=*/"", /*include_self=*/false)) {
    if (const auto linear = std::dynamic_pointer_cast<LinearImpl>(inner.value())) {
      found.push_back({inner.key(), Linear(linear)});
    }
  }
  return found;
}

bool names(const std::string& given, const std::string& layer) {
  return layer == given || layer.ends_with("." + given) || layer.starts_with(given + ".");
}

/// The layers to convert; every given name has to match one.
std::vector<NamedLinear> chosen(torch::nn::Module& module, const std::vector<std::string>& left_out) {
  auto layers = linears_of(module);
  for (const auto& given : left_out) {
    TORCH_CHECK(std::ranges::any_of(layers, [&](const auto& layer) { return names(given, layer.name); }),
                "modules_to_not_convert: no layer is named ", given);
  }
  std::erase_if(layers, [&](const auto& layer) {
    return std::ranges::any_of(left_out, [&](const auto& given) { return names(given, layer.name); });
  });
  return layers;
}

void check_layer(const NamedLinear& layer, const QuantizationOptions& options) {
  TORCH_CHECK(layer.linear->method() == nullptr, layer.name, ": only a plain linear method can be quantised");
  const auto in = layer.linear->options.in_features();
  TORCH_CHECK(options.format == WeightFormat::kInt8 || in % options.group_size == 0, layer.name,
              ": group_size must divide in_features ", in, ", got ", options.group_size);
}

}  // namespace

void quantize(torch::nn::Module& module, const QuantizationOptions& options) {
  TORCH_CHECK(options.group_size > 0 && options.group_size % 2 == 0, "group_size must be even and above 0, got ",
              options.group_size);
  auto layers = chosen(module, options.modules_to_not_convert);
  for (const auto& layer : layers) {
    check_layer(layer, options);
  }
  for (auto& [name, linear] : layers) {
    linear->set_method(std::make_shared<WeightOnlyLinear>(linear->weight, options));
    linear->weight.requires_grad_(false);
    linear->set_parameters(at::empty_like(linear->weight, at::TensorOptions().device(at::kMeta)), linear->bias);
  }
}

void dequantize(torch::nn::Module& module) {
  for (auto& [name, linear] : linears_of(module)) {
    const auto method = std::dynamic_pointer_cast<const WeightOnlyLinear>(linear->method());
    if (method != nullptr) {
      linear->set_parameters(method->dequantized(), linear->bias);
      linear->set_method(nullptr);
    }
  }
}

torch::Tensor dense_weight(const LinearImpl& linear, const LinearMethod* method) {
  const auto* quantized = dynamic_cast<const WeightOnlyLinear*>(method);
  return quantized != nullptr ? quantized->dequantized() : linear.weight;
}

}  // namespace transformers
