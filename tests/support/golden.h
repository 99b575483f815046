#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace transformers::testing {

/// One file of scripts/goldens/make_goldens.py: a tiny model, its inputs, and what transformers made of them. The
/// layout stands at the head of scripts/goldens/case.py.
class Golden {
 public:
  explicit Golden(const std::string& path);

  const std::string& config() const { return metadata_.at("config"); }  // text of config.json
  const std::string& model_class() const { return metadata_.at("class"); }
  const std::string& attn_implementation() const { return metadata_.at("attn_implementation"); }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  int64_t steps() const;  // 0: one call
  std::optional<double> number_option(const std::string& name) const;
  std::optional<bool> bool_option(const std::string& name) const;

  bool contains(const std::string& name) const { return tensors_.contains(name); }
  /// Undefined when the file does not hold it.
  at::Tensor tensor(const std::string& name) const;
  /// Names and tensors under `prefix`, without it: all("grads.").
  std::map<std::string, at::Tensor> all(const std::string& prefix) const;

  /// The same with every tensor on a device.
  Golden to(at::Device device) const;

  /// Writes config.json and model.safetensors as a Hugging Face folder.
  void write_folder(const std::string& folder) const;

 private:
  std::map<std::string, std::string> metadata_;
  std::map<std::string, at::Tensor> tensors_;
};

/// The golden files of a folder under tests/golden whose names begin with `prefix`, sorted, without folder and ending.
std::vector<std::string> golden_names(const std::string& folder, const std::string& prefix);
std::string golden_path(const std::string& folder, const std::string& name);

}  // namespace transformers::testing
