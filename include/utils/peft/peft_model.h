#pragma once

/// \file
/// The room utils/peft adds LoRA adapters to a model and reads and writes them in peft's format. It does not train them
/// (see utils/training) and holds no other kind of adapter.

#include <transformers/export.h>
#include <transformers/utils/nn/module.h>
#include <transformers/utils/nn/state_dict.h>
#include <transformers/utils/peft/lora_config.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

class SaveTransaction;

struct AdapterOptions {
  /// Newly initialized matrices depend on this number alone; they are those of peft after torch.manual_seed(seed).
  uint64_t seed = 42;
  /// fp32 matrices beside a bf16 or fp16 weight; false: in the weight's dtype.
  bool autocast_adapter_dtype = true;
};

struct LoadAdapterOptions {
  /// False loads it frozen, for use alone.
  bool is_trainable = false;
  bool autocast_adapter_dtype = true;
};

/// Numbers of elements.
struct TrainableParameters {
  int64_t trainable = 0;
  int64_t all = 0;
};

/// LoRA adapters (LoRA, rsLoRA, DoRA) of a model, which stays the caller's own and is called as before: the adapters
/// work inside its Linear layers, and neither its classes nor the names of its state dict know of them. Mirrors peft's
/// `PeftModel` and `LoraModel` (peft_model.py, tuners/lora/model.py, peft 0.21.2).
///
///     auto model = LlamaForCausalLM::from_pretrained(folder);
///     PeftModel adapters(model.ptr());
///     adapters->add_adapter("default", {.r = 16, .lora_alpha = 32});
///     AdamW optimizer(trainable_parameters(*adapters));
///     ... train: adapters->train(), model->forward(...) ...
///     adapters->save_pretrained("out");
///
/// As a module it holds the model and the adapters: move, cast and switch modes through it, not through the model. Its
/// trainable parameters are those of the active adapters and nothing else. The first adapter is active at once, further
/// ones after `set_adapter`. Names of adapters hold no dot.
class PeftModelImpl : public Module {
 public:
  explicit PeftModelImpl(std::shared_ptr<torch::nn::Module> model);
  ~PeftModelImpl() override;

  /// A copy of model and adapters that is independent of these, merged and active as they are. Mirrors
  /// `copy.deepcopy(peft_model)`. The copy's model is `base_model()`.
  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>& device = std::nullopt) const override;
  const std::shared_ptr<torch::nn::Module>& base_model() const;

  /// Fresh matrices beside the layers the config chooses; the model itself is frozen. Throws, changing nothing, when
  /// the config chooses no layer or one that is no Linear, or the name is taken.
  void add_adapter(const std::string& name, LoraConfig config = {}, const AdapterOptions& options = {});
  /// Removes an adapter that is not merged. When no active one is left the first other one becomes active.
  void delete_adapter(const std::string& name);

  /// These adapters, and no others, take part in forward, in this order, and are trained unless frozen. Unmerges.
  void set_adapter(const std::vector<std::string>& names);
  const std::vector<std::string>& active_adapters() const;
  /// All of them, in the order they came.
  std::vector<std::string> adapter_names() const;
  /// As it would be saved: with the default target modules and the task's head filled in.
  const LoraConfig& peft_config(const std::string& name) const;

  /// Off: the model gives what it gave before there were adapters, but for biases they have trained. Switching off
  /// unmerges. See `DisableAdapter`.
  void enable_adapters(bool enabled);
  bool adapters_enabled() const;

  /// Adds the active adapters to the weights, for speed; forward costs no more than without. Throws, changing nothing,
  /// when something is merged already, a weight is tied to another module's, or an adapter is not finite.
  void merge_adapter();
  /// Throws as `merge_adapter` would, but for values that are not finite, which training may still change.
  void check_mergeable() const;
  /// Takes them out again; weights come back to rounding.
  void unmerge_adapter();
  bool merged() const;
  /// Leaves the model as plain modules with the active adapters in its weights, or without any, and forgets all
  /// adapters. Parameters stay frozen, as in peft. A head that modules to save have taken from the embeddings stays so,
  /// and the model's config says so.
  void merge_and_unload();
  void unload();

  /// Of the model and its adapters; a tied parameter counts once, a module to save once more for each copy.
  TrainableParameters get_nb_trainable_parameters() const;

  /// An adapter's tensors by the keys of its file: `base_model.model.<module>.lora_A.weight`, ... They share memory.
  StateDict get_peft_model_state_dict(const std::string& name = "default") const;

  /// Writes adapter_config.json and adapter_model.safetensors, all or nothing, for peft's `from_pretrained` and ours.
  /// Creates the folder itself, not its parents.
  void save_pretrained(const std::string& folder, const std::string& name = "default") const;
  /// As part of a save that replaces other files with the adapter's; the caller commits.
  void save_pretrained(SaveTransaction& save, const std::string& name = "default") const;
  /// Adds an adapter that peft or this library saved, from adapter_model.safetensors or adapter_model.bin. A file may
  /// also hold tensors of the base model (peft saves embeddings that were resized); they are copied into it. Throws,
  /// changing nothing, when a tensor is missing, unknown or of another shape than the config says; the config alone
  /// makes nothing be allocated.
  void load_adapter(const std::string& name, const std::string& folder, const LoadAdapterOptions& options = {});

 private:
  struct State;
  struct Layer;
  struct Adapter;
  struct Parts;

  Parts make_parts(const LoraConfig& config, bool autocast_adapter_dtype, bool shapes_only = false) const;
  void insert(const std::string& name, LoraConfig config, Parts parts);
  void untie(const Parts& parts);
  void check_new(const std::string& name, const LoraConfig& config) const;
  StateDict named_tensors(const LoraConfig& config, const Parts& parts) const;
  void copy_adapters(const State& from, TensorCopies& copies);
  void remove_all();
  void refresh();
  const Adapter& adapter(const std::string& name) const;

  std::unique_ptr<State> state_;
};
TRANSFORMERS_MODULE(PeftModel);

/// Switches the adapters off for its lifetime, as peft's `with model.disable_adapter():`.
class DisableAdapter {
 public:
  explicit DisableAdapter(PeftModelImpl& model) : model_(model), was_enabled_(model.adapters_enabled()) {
    model_.enable_adapters(false);
  }
  ~DisableAdapter() { model_.enable_adapters(was_enabled_); }
  DisableAdapter(const DisableAdapter&) = delete;
  DisableAdapter& operator=(const DisableAdapter&) = delete;

 private:
  PeftModelImpl& model_;
  bool was_enabled_;
};

}  // namespace transformers
