#pragma once

/// \file
/// The room utils/modeling holds what the model families share: base classes, loading and saving, masks, caches,
/// rotary embeddings, attention and losses. It does not know any family; those are in llama/ and gptj/.
/// General building blocks such as `Linear` are in utils/nn.

#include <transformers/export.h>
#include <transformers/utils/configuration/configuration_utils.h>
#include <transformers/utils/modeling/model_structure.h>
#include <transformers/utils/nn/construction.h>
#include <transformers/utils/nn/embedding.h>
#include <transformers/utils/nn/linear.h>
#include <transformers/utils/nn/module.h>
#include <transformers/utils/placement/device_map.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace transformers {
struct Placement;
}  // namespace transformers

namespace TRANSFORMERS_API transformers {

class BaseModel;
class SaveTransaction;

struct SaveOptions {
  /// The largest size of a weights file in bytes; a larger tensor gets a file of its own. The default is HF's 5 GB.
  int64_t max_shard_size = 5'000'000'000;
  /// Write a pruned model that transformers' config cannot express in the library-only form, with the keys
  /// `pruned_heads`, `intermediate_sizes` and GPT-J's `head_dim`, which only this library reads; false: throw instead.
  /// A model that can be expressed is always written in the HF-compatible form.
  bool extended = false;
  ConfigFormat config_format = ConfigFormat::kTransformers5;
  /// Write `architectures` of the config instead of the name of the model's class.
  bool keep_architectures = false;
};

struct ResizeOptions {
  std::optional<int64_t> pad_to_multiple_of{};
  /// Draw new rows around the mean of the old ones, with their covariance times 1e-9; false: newly initialized.
  bool mean_resizing = true;
};

/// Base class of all models, with and without a head. Mirrors HF's `PreTrainedModel` (modeling_utils.py, transformers
/// 5.23.0). Everything that concerns only the model without a head, such as which of its blocks run and where, is in
/// `BaseModel`.
///
///     auto model = LlamaForCausalLM::from_pretrained("llama-2-7b");
///     model->gradient_checkpointing_enable();
///     model->save_pretrained("copy");
class PreTrainedModel : public Module {
 public:
  virtual const PretrainedConfig& config() const = 0;
  virtual PretrainedConfig& config() = 0;
  /// The model without a head inside this one; the model itself when it has no head.
  virtual BaseModel& base_model() = 0;
  /// The name under which the base model is registered; empty for a base model.
  virtual std::string base_model_prefix() const = 0;

  virtual Embedding get_input_embeddings();
  virtual void set_input_embeddings(Embedding embeddings);
  /// The layer from hidden states to the vocabulary; empty for models without one.
  virtual Linear get_output_embeddings() { return nullptr; }
  virtual void set_output_embeddings(Linear embeddings);
  /// Lets input and output embeddings share one tensor where the config asks for it.
  void tie_weights();
  /// Changes the number of tokens in embeddings, head (weight and bias) and config; nullopt changes nothing. Returns
  /// the embeddings. Throws, changing nothing, on a placed model and on a head that is adapted or quantised.
  Embedding resize_token_embeddings(std::optional<int64_t> new_num_tokens, const ResizeOptions& options = {});

  /// Removes attention heads, as HF's `prune_heads`: query heads by layer, numbered as before any was pruned; heads
  /// that are already removed are skipped. Key/value heads without a query head are removed too.
  /// `config().pruned_heads` records the removed heads. Throws, changing nothing, on an unknown layer or head, an empty
  /// list, a head listed twice, a layer that would lose all its heads, and one whose key/value heads would serve
  /// different numbers of query heads.
  void prune_heads(const HeadsByLayer& heads_to_prune);
  /// Keeps only these layers, in this order: numbers from 0, ascending.
  void keep_layers(const std::vector<int64_t>& layers);
  /// The parts of the model that can be pruned.
  virtual ModelStructure structure();
  /// Throws where pruning would not result in the smaller model: the model was placed by a device map, or layers are
  /// adapted or quantised. Everything that prunes or scores calls it first.
  void check_prunable();

  /// Newly initializes every parameter as HF does: N(0, initializer_range) for matrices, 1 for norms, 0 for biases.
  void init_weights();

  /// In training, keeps only the input of every n-th block and runs that block again in backward. This saves memory,
  /// takes about a third more time and computes the same values. No cache is returned while it is on.
  void gradient_checkpointing_enable(int64_t every_n = 1);
  void gradient_checkpointing_disable();
  bool is_gradient_checkpointing();

  /// Makes the embedding output require gradients, although every weight before the adapters is frozen.
  void enable_input_require_grads();
  void disable_input_require_grads();

  /// The device map that the model was loaded with; empty without one. Mirrors HF's attribute of that name.
  const DeviceMap& hf_device_map() const;
  /// Classes of modules that a device map does not split: the blocks. Mirrors HF's `_no_split_modules`.
  std::vector<std::string> no_split_modules();

  using Module::to;
  /// As `Module::to`, but throws on a model that is spread over several places.
  void to(torch::Device device, torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Device device, bool non_blocking = false) override;

  /// Tied tensors count once.
  int64_t num_parameters(bool only_trainable = false, bool exclude_embeddings = false) const;
  /// Bytes of all parameters and, when asked for, buffers; quantised weights count with their quantised size.
  int64_t get_memory_footprint(bool with_buffers = true) const;
  c10::ScalarType dtype() const;
  /// The device of the first parameter that has memory; for a model in several places, the device on which ids are
  /// passed in and scores are returned.
  c10::Device device() const;

  /// Changes the attention kernel of an existing model.
  void set_attn_implementation(AttnImplementation implementation) { config().attn_implementation = implementation; }

  /// Writes config.json, the weights as safetensors (tied tensors once, in shards where large) and, for generative
  /// models, generation_config.json. The save takes effect atomically. Removes an adapter that an earlier save left in
  /// the folder. Python's `from_pretrained` loads the folder. Creates the folder itself, not its parents.
  void save_pretrained(const std::string& folder, const SaveOptions& options = {});
  /// The same as part of a larger save, which the caller commits.
  void save_pretrained(SaveTransaction& save, const SaveOptions& options = {});
  /// The same, but `add_weights` adds the weights to the save: for a model that no single process holds.
  void save_pretrained(SaveTransaction& save, const SaveOptions& options, const std::function<void()>& add_weights);

  /// The class name that HF writes to `architectures`, e.g. LlamaForCausalLM.
  std::string architecture() const;

  /// Reads the folder's generation_config.json; models that do not generate ignore it.
  virtual void read_generation_config(const ModelFolder& folder);
  /// For `clone`: copies from a model of the same class everything that is neither config nor module nor parameter.
  virtual void copy_settings(const PreTrainedModel& other);
  /// For `from_pretrained`: makes a filled model run over these places.
  void set_placement(const std::shared_ptr<const Placement>& placement);

 protected:
  /// Runs a constructor's registrations without initialising each layer, then initialises the whole model (unless the
  /// construction options say not to) and ties weights.
  template <typename Registrations>
  void build(const Registrations& registrations) {
    {
      auto quiet = construction_options();
      quiet.initialize = false;
      const ConstructionGuard guard(quiet);
      registrations();
    }
    post_init();
  }

  /// The text of generation_config.json; empty for models that do not generate.
  virtual std::string generation_config_json() const { return {}; }

 private:
  void post_init();
  void check_movable();
  void check_unplaced();

  std::shared_ptr<const Placement> placement_;  // null: all in one place
};

}  // namespace transformers
