#pragma once

#include <transformers/utils/peft/peft_model.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "utils/peft/lora_linear.h"
#include "utils/peft/lora_targets.h"

namespace transformers {

/// Converts a layer's name to the name of a module, which must not contain dots.
std::string module_name(std::string layer);

/// The tensors that one adapter owns.
struct PeftModelImpl::Parts {
  std::vector<std::pair<LoraTarget, LoraWeights>> layers{};
  /// The adapter's copies of the parameters of modules to save, by their names in the model. While an adapter is in
  /// use, its values are in the model and the entry here is not read.
  std::map<std::string, at::Tensor> saved{};
};

struct PeftModelImpl::Adapter {
  std::string name{};
  LoraConfig config{};
  Parts parts{};
};

/// A Linear that has an adapter.
struct PeftModelImpl::Layer {
  std::shared_ptr<LinearImpl> linear{};
  std::shared_ptr<LoraLinear> method{};
};

struct PeftModelImpl::State {
  /// A parameter of the model of which adapters have copies. It remains the same tensor object; its data is exchanged.
  struct Exchanged {
    at::Tensor parameter{};
    at::Tensor base{};     // the model's own data while that of an adapter is in use
    std::string holder{};  // the adapter whose data is in use; empty: none
  };

  std::shared_ptr<torch::nn::Module> model{}, adapters_module{};
  std::map<std::string, Layer> layers{};
  std::vector<Adapter> adapters{};
  std::vector<std::string> active{};
  bool enabled = true;
  std::map<std::string, Exchanged> exchanged{};
  /// Linears that were untied, and the weight that they shared before.
  std::vector<std::pair<std::shared_ptr<LinearImpl>, at::Tensor>> untied{};

  Adapter* find(const std::string& name);
  bool is_active(const std::string& name) const;
  /// The active adapter that has a copy of a parameter; empty when none has one and while adapters are switched off.
  std::string holder_of(const std::string& parameter);
  void exchange(const std::string& parameter, Exchanged& slot, const std::string& holder);
  /// Updates the config of a model whose head was tied or untied. With a wrong entry, a saved folder would load with
  /// other weights.
  void note_tie() const;
  /// Sets requires_grad of the model's parameters according to the active adapters.
  void set_requires_grad();
};

}  // namespace transformers
