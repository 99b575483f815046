#pragma once

#include <transformers/utils/peft/peft_model.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "utils/peft/lora_linear.h"
#include "utils/peft/lora_targets.h"

namespace transformers {

/// A layer's name as that of a module, which holds no dot.
std::string module_name(std::string layer);

/// What one adapter owns.
struct PeftModelImpl::Parts {
  std::vector<std::pair<LoraTarget, LoraWeights>> layers{};
  /// Its copies of the parameters of modules to save, by their names in the model. While an adapter is at work its
  /// values are in the model and the entry here is not read.
  std::map<std::string, at::Tensor> saved{};
};

struct PeftModelImpl::Adapter {
  std::string name{};
  LoraConfig config{};
  Parts parts{};
};

/// A Linear that some adapter goes beside.
struct PeftModelImpl::Layer {
  std::shared_ptr<LinearImpl> linear{};
  std::shared_ptr<LoraLinear> method{};
};

struct PeftModelImpl::State {
  /// A parameter of the model that adapters have copies of. It stays the same tensor object, and its data is exchanged.
  struct Exchanged {
    at::Tensor parameter{};
    at::Tensor base{};     // the model's own data while an adapter's is in
    std::string holder{};  // the adapter whose data is in; empty: none
  };

  std::shared_ptr<torch::nn::Module> model{}, adapters_module{};
  std::map<std::string, Layer> layers{};
  std::vector<Adapter> adapters{};
  std::vector<std::string> active{};
  bool enabled = true;
  std::map<std::string, Exchanged> exchanged{};
  /// Linears that got a weight of their own, and the weight they shared before.
  std::vector<std::pair<std::shared_ptr<LinearImpl>, at::Tensor>> untied{};

  Adapter* find(const std::string& name);
  bool is_active(const std::string& name) const;
  /// The active adapter that has a copy of a parameter; empty while adapters are off, and when none has one.
  std::string holder_of(const std::string& parameter);
  void exchange(const std::string& parameter, Exchanged& slot, const std::string& holder);
  /// Makes the config of a model whose head was tied or untied say so: a folder saved with a tie that is none loads
  /// with other weights.
  void note_tie() const;
  /// Which parameters of the model learn with the active adapters.
  void set_requires_grad();
};

}  // namespace transformers
