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
  /// Newly initialized matrices depend only on this number; they equal those of peft after torch.manual_seed(seed).
  uint64_t seed = 42;
  /// Use fp32 matrices beside a bf16 or fp16 weight; false: the weight's dtype.
  bool autocast_adapter_dtype = true;
};

struct LoadAdapterOptions {
  /// False loads the adapter frozen, for inference only.
  bool is_trainable = false;
  bool autocast_adapter_dtype = true;
};

/// Numbers of elements.
struct TrainableParameters {
  int64_t trainable = 0;
  int64_t all = 0;
};

/// LoRA adapters (LoRA, rsLoRA, DoRA) of a model. The model remains usable and is called as before: the adapters are
/// linear methods of its Linear layers and change neither its classes nor the names of its state dict. Mirrors peft's
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
/// trainable parameters are exactly those of the active adapters. The first adapter is active at once, others become
/// active by `set_adapter`. Names of adapters must not contain a dot.
class PeftModelImpl : public Module {
 public:
  explicit PeftModelImpl(std::shared_ptr<torch::nn::Module> model);
  ~PeftModelImpl() override;

  /// An independent copy of model and adapters, which are merged and active as in the original. Mirrors
  /// `copy.deepcopy(peft_model)`. The copy's model is `base_model()`.
  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>& device = std::nullopt) const override;
  const std::shared_ptr<torch::nn::Module>& base_model() const;

  /// Adds newly initialized matrices beside the layers that the config selects, and freezes the model itself. Throws,
  /// changing nothing, when the config selects no layer or one that is not a Linear, or the name is taken.
  void add_adapter(const std::string& name, LoraConfig config = {}, const AdapterOptions& options = {});
  /// Removes an adapter that is not merged. If no active adapter remains, the first of the others becomes active.
  void delete_adapter(const std::string& name);

  /// Makes exactly these adapters take part in forward, in this order, and trains them unless they are frozen.
  /// Unmerges.
  void set_adapter(const std::vector<std::string>& names);
  const std::vector<std::string>& active_adapters() const;
  /// All adapters, in the order in which they were added.
  std::vector<std::string> adapter_names() const;
  /// The config as it would be saved: with the default target modules and the task's head filled in.
  const LoraConfig& peft_config(const std::string& name) const;

  /// False: the model computes what it computed before it had adapters, except for biases that they have trained.
  /// Switching off unmerges. See `DisableAdapter`.
  void enable_adapters(bool enabled);
  bool adapters_enabled() const;

  /// Adds the active adapters to the weights, so that forward costs no more than without them. Throws, changing
  /// nothing, when something is merged already, a weight is tied to another module's, or an adapter is not finite.
  void merge_adapter();
  /// Throws where `merge_adapter` would, except on values that are not finite, as training may still change those.
  void check_mergeable() const;
  /// Subtracts them again; the weights are restored up to rounding.
  void unmerge_adapter();
  bool merged() const;
  /// Removes all adapters and leaves the model as plain modules, with the active adapters merged into its weights or
  /// without any. Parameters stay frozen, as in peft. A head that modules to save have untied from the embeddings stays
  /// untied, and the model's config records it.
  void merge_and_unload();
  void unload();

  /// Counts the parameters of the model and its adapters; a tied parameter counts once, a module to save once more for
  /// each copy.
  TrainableParameters get_nb_trainable_parameters() const;

  /// An adapter's tensors by the keys of its file: `base_model.model.<module>.lora_A.weight`, ... They share memory.
  StateDict get_peft_model_state_dict(const std::string& name = "default") const;

  /// Writes adapter_config.json and adapter_model.safetensors, which peft's `from_pretrained` and load_adapter read.
  /// The save takes effect atomically. Creates the folder itself, not its parents.
  void save_pretrained(const std::string& folder, const std::string& name = "default") const;
  /// The same as part of a larger save, which the caller commits.
  void save_pretrained(SaveTransaction& save, const std::string& name = "default") const;
  /// Adds an adapter that peft or this library saved, from adapter_model.safetensors or adapter_model.bin. A file may
  /// also hold tensors of the base model (peft saves embeddings that were resized); they are copied into it. Throws,
  /// changing nothing, when a tensor is missing, unknown or of another shape than the config says. The sizes in the
  /// config alone never cause an allocation.
  void load_adapter(const std::string& name, const std::string& folder, const LoadAdapterOptions& options = {});

 private:
  struct TRANSFORMERS_PRIVATE State;
  struct TRANSFORMERS_PRIVATE Layer;
  struct TRANSFORMERS_PRIVATE Adapter;
  struct TRANSFORMERS_PRIVATE Parts;

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

/// Switches the adapters off for its lifetime, like peft's `with model.disable_adapter():`.
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
