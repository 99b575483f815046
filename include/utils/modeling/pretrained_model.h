#pragma once

/// \file
/// The room utils/modeling holds what the model families share: base classes, configs, loading and saving, masks,
/// caches, rotary embeddings, attention and losses. It does not know any family; those are in llama/ and gptj/.
/// General building blocks such as `Linear` are in utils/nn.

#include <transformers/export.h>
#include <transformers/utils/modeling/configuration_utils.h>
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

namespace TRANSFORMERS_API transformers {

class BaseModel;
class SaveTransaction;
struct Placement;

struct SaveOptions {
  /// Bytes a weights file may hold; a tensor beyond it gets a file of its own. 5 GB as HF writes it.
  int64_t max_shard_size = 5'000'000'000;
  /// Write a pruned model that transformers' config cannot express with keys of ours (`pruned_heads`,
  /// `intermediate_sizes`, GPT-J's `head_dim`), which only this library's loader obeys; false: refuse it. What can be
  /// expressed is always written as transformers reads it.
  bool extended = false;
  ConfigFormat config_format = ConfigFormat::kTransformers5;
  /// Write `architectures` as the config has it, rather than the name of the model's class.
  bool keep_architectures = false;
};

struct ResizeOptions {
  std::optional<int64_t> pad_to_multiple_of{};
  /// New rows around the mean of the old ones, with their covariance times 1e-9; false: newly initialized.
  bool mean_resizing = true;
};

/// Base of all models, with and without a head. Mirrors HF's `PreTrainedModel` (modeling_utils.py,
/// transformers 5.23.0). What belongs to the model without a head, such as which of its blocks run and where, is in
/// `BaseModel`.
///
///     auto model = LlamaForCausalLM::from_pretrained("llama-2-7b");
///     model->gradient_checkpointing_enable();
///     model->save_pretrained("copy");
class PreTrainedModel : public Module {
 public:
  virtual const PretrainedConfig& config() const = 0;
  virtual PretrainedConfig& config() = 0;
  /// The model without heads inside this one, itself when it has none.
  virtual BaseModel& base_model() = 0;
  /// Under what name it is registered; empty for a base model.
  virtual std::string base_model_prefix() const = 0;

  virtual Embedding get_input_embeddings();
  virtual void set_input_embeddings(Embedding embeddings);
  /// The layer from hidden states to the vocabulary; empty for models without one.
  virtual Linear get_output_embeddings() { return nullptr; }
  virtual void set_output_embeddings(Linear embeddings);
  /// Makes input and output embeddings one tensor where the config says so.
  void tie_weights();
  /// New number of tokens in embeddings, head (weight and bias) and config; nullopt changes nothing. Returns the
  /// embeddings. Throws, changing nothing, on a placed model and on a head that is adapted or quantised.
  Embedding resize_token_embeddings(std::optional<int64_t> new_num_tokens, const ResizeOptions& options = {});

  /// Takes attention heads out, as HF's `prune_heads`: query heads by layer, numbered as before any was pruned; those
  /// already gone are skipped. Key/value heads without a query head go too. `config().pruned_heads` keeps account.
  /// Throws, changing nothing, on an unknown layer or head, an empty list, a head listed twice, a layer that would have
  /// none left, and one whose key/value heads would serve different numbers of query heads.
  void prune_heads(const HeadsByLayer& heads_to_prune);
  /// Keeps these layers alone, in this order: numbers from 0, ascending.
  void keep_layers(const std::vector<int64_t>& layers);
  /// What there is to prune.
  virtual ModelStructure structure();
  /// Throws in one sentence where pruning would leave something else than the smaller model: the model was placed by a
  /// device map, or layers are adapted or quantised. Everything that prunes or scores asks it first.
  void check_prunable();

  /// Fresh values for every parameter, as HF draws them: N(0, initializer_range) for matrices, 1 for norms, 0 for
  /// biases.
  void init_weights();

  /// Training keeps only the input of every n-th block and runs that block again in backward: less memory for about a
  /// third more time, the same numbers. No cache is kept meanwhile.
  void gradient_checkpointing_enable(int64_t every_n = 1);
  void gradient_checkpointing_disable();
  bool is_gradient_checkpointing();

  /// Makes the embeddings of ids take gradients although every weight before the adapters is frozen.
  void enable_input_require_grads();
  void disable_input_require_grads();

  /// Where its parts lie, as it was loaded with a device map; else empty. Mirrors HF's attribute of that name.
  const DeviceMap& hf_device_map() const;
  /// Classes of modules that a device map keeps whole: the blocks. Mirrors HF's `_no_split_modules`.
  std::vector<std::string> no_split_modules();
  using Module::to;
  /// As `Module::to`; throws on a model whose parts lie in several places.
  void to(torch::Device device, torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Device device, bool non_blocking = false) override;

  /// Tied tensors count once.
  int64_t num_parameters(bool only_trainable = false, bool exclude_embeddings = false) const;
  /// Bytes of parameters, quantised ones as they are held, and, when asked for, buffers.
  int64_t get_memory_footprint(bool with_buffers = true) const;
  c10::ScalarType dtype() const;
  /// Of the first parameter that has memory; of a model in several places, the device that takes ids and gives scores.
  c10::Device device() const;

  /// "auto", "eager", "sdpa", "flash" on a live model.
  void set_attn_implementation(AttnImplementation implementation) { config().attn_implementation = implementation; }

  /// Writes config.json, the weights as safetensors (ties once, sharded where large) and, for generative models,
  /// generation_config.json; all or nothing. An adapter that an earlier save left in the folder goes. Python's
  /// `from_pretrained` loads the folder. Creates the folder itself, not its parents.
  void save_pretrained(const std::string& folder, const SaveOptions& options = {});
  /// As part of a save that replaces other files with the model's; the caller commits.
  void save_pretrained(SaveTransaction& save, const SaveOptions& options = {});
  /// The same with weights that `add_weights` adds to the save, for a model that no process holds whole.
  void save_pretrained(SaveTransaction& save, const SaveOptions& options, const std::function<void()>& add_weights);

  /// The name HF has in `architectures`, e.g. LlamaForCausalLM.
  std::string architecture() const;

  /// Reads the folder's generation_config.json; models that do not generate ignore it.
  virtual void read_generation_config(const ModelFolder& folder);
  /// For `clone`: takes over from a model of the same class what is neither config nor module nor parameter.
  virtual void copy_settings(const PreTrainedModel& other);
  /// For `from_pretrained`: a filled model from now on runs over these places.
  void set_placement(const std::shared_ptr<const Placement>& placement);

 protected:
  /// Runs a constructor's registrations without an initialisation pass a layer, then initialises (unless the
  /// construction options say not to) and ties.
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
