#pragma once

#include <transformers/utils/io/one_save.h>
#include <transformers/utils/modeling/configuration_utils.h>
#include <transformers/utils/modeling/device_map.h>
#include <transformers/utils/modeling/generation_config.h>
#include <transformers/utils/modeling/model_structure.h>
#include <transformers/utils/modeling/modeling_outputs.h>
#include <transformers/utils/nn/construction.h>
#include <transformers/utils/nn/embedding.h>
#include <transformers/utils/nn/linear.h>
#include <transformers/utils/nn/module.h>
#include <transformers/utils/nn/state_dict.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace transformers {

class Checkpoint;
class SaveTransaction;
struct Placement;

/// What loading a folder met, by the model's own names.
struct LoadReport : IncompatibleKeys {
  std::vector<std::string> ignored;      // legacy buffers in the file that a model computes itself
  std::vector<std::string> initialized;  // missing from the file, so newly initialized
  /// Why stored tensors are no weights, a sentence each: whole numbers, codes whose scales lie beside them.
  std::vector<std::string> unreadable;
};

struct LoadOptions {
  /// Unset: the dtype config.json states, else that of the weights. The same dtype as stored costs no copy.
  std::optional<c10::ScalarType> dtype{};
  c10::Device device = c10::kCPU;
  AttnImplementation attn_implementation = AttnImplementation::kAuto;
  /// Newly initialize tensors of another shape instead of throwing.
  bool ignore_mismatched_sizes = false;
  /// Classes of a classification head, in place of what config.json says.
  std::optional<int64_t> num_labels{};
  /// The variant in the files' names: `model.<variant>.safetensors` and so on.
  std::string variant{};
  /// Filled when given.
  LoadReport* report = nullptr;
  /// Several places instead of `device`: "auto", another strategy, or {{"model", 0}, {"lm_head", "cpu"}}. Weights on
  /// the disk are read from the safetensors files when their layer runs and dropped afterwards; weights on the CPU of a
  /// model that has GPUs wait there and run on the first GPU. Neither can be trained. A placed model can
  /// still be saved, but no longer moved, copied, pruned or resized.
  DeviceMapOption device_map{};
  /// What each place may hold where `device_map` is a strategy; unset: the memory that is free.
  std::optional<MaxMemory> max_memory{};
};

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

/// Blocks [begin, end) of a model, a stage of a pipeline.
struct BlockRange {
  int64_t begin = 0;
  int64_t end = 0;
};

/// Base of all models. Mirrors HF's `PreTrainedModel` (modeling_utils.py, transformers 5.23.0).
class PreTrainedModel : public Module {
 public:
  virtual const PretrainedConfig& config() const = 0;
  virtual PretrainedConfig& config() = 0;
  /// The model without heads inside this one, itself when it has none.
  virtual PreTrainedModel& base_model() = 0;
  /// Under what name it is registered; empty for a base model.
  virtual std::string base_model_prefix() const = 0;

  virtual Embedding get_input_embeddings() { return base_model().get_input_embeddings(); }
  virtual void set_input_embeddings(Embedding embeddings) { base_model().set_input_embeddings(std::move(embeddings)); }
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
  void gradient_checkpointing_disable() { base_model().checkpoint_every_ = 0; }
  bool is_gradient_checkpointing() { return base_model().checkpoint_every_ > 0; }

  /// Makes the embeddings of ids take gradients although every weight before the adapters is frozen.
  void enable_input_require_grads();
  void disable_input_require_grads();

  /// Where its parts lie, as it was loaded with a device map; else empty. Mirrors HF's attribute of that name.
  const DeviceMap& hf_device_map() const;
  /// Classes of modules that a device map keeps whole: the blocks. Mirrors HF's `_no_split_modules`.
  std::vector<std::string> no_split_modules();
  /// Restricts forward to these blocks. If the first block is excluded, pass hidden states as `inputs_embeds`. If the
  /// last block is excluded, the base model returns hidden states without the last norm. Other blocks may stay on the
  /// meta device.
  void run_blocks(const BlockRange& blocks);

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

  /// generation_config.json's text; empty for models that do not generate.
  virtual std::string generation_config_json() const { return {}; }
  virtual void read_generation_config(const std::string&) {}

  /// Whether a forward that is running now is to run block `i` by `checkpoint`.
  bool checkpoints_block(size_t i) const;
  /// The call without a cache, with a warning where one was wanted, while blocks are checkpointed.
  ModelInputs without_cache_when_checkpointing(ModelInputs inputs) const;

  /// Which of a base model's `count` blocks a forward runs.
  BlockRange blocks_to_run(size_t count) const;
  /// Where block `i` of a base model runs; none where all run in one place.
  std::optional<c10::Device> block_device(size_t i) const;
  /// Of a base model: where each block runs; empty: all in one place.
  void set_block_devices(std::vector<c10::Device> devices) { block_devices_ = std::move(devices); }

  /// What a clone takes over beside config, modules and parameters.
  virtual void copy_settings(const PreTrainedModel& other);

  /// Exchanges the list of layers; the config is the caller's business.
  virtual void select_layers(const std::vector<int64_t>& layers) { base_model().select_layers(layers); }

 private:
  friend LoadReport load_weights(PreTrainedModel&, const std::shared_ptr<const Checkpoint>&, const std::string&,
                                 const LoadOptions&);
  friend void place(PreTrainedModel&, std::shared_ptr<Placement>);
  friend void copy_parameters(const torch::nn::Module&, torch::nn::Module&, const std::optional<torch::Device>&);
  bool spans_devices() const;
  void post_init();
  void check_movable() const;
  void check_unplaced();

  int64_t checkpoint_every_ = 0;                            // of a base model; 0: off
  std::optional<ForwardHooks::HookId> require_grads_hook_;  // of a base model, on its embeddings
  std::optional<BlockRange> blocks_;                        // of a base model; unset: all
  std::vector<c10::Device> block_devices_;                  // of a base model
  std::shared_ptr<Placement> placement_;                    // null: all in one place
};

/// A folder's weights, every file opened and checked; throws when they cannot be a model of that many layers.
std::shared_ptr<const Checkpoint> open_checkpoint(const std::string& folder, const PretrainedConfig& config,
                                                  const LoadOptions& options);
/// What filling a model from these weights would meet; reads no tensor and changes nothing.
LoadReport match_weights(PreTrainedModel& model, const Checkpoint& checkpoint);
/// Throws, naming everything that is missing or mis-shaped, when the base model cannot be filled, and where a stored
/// tensor is no weight.
void check_fit(const LoadReport& report, const PreTrainedModel& model, const std::string& folder,
               bool ignore_mismatched_sizes = false);
/// Fills a model that was built on the meta device. Without a cast, parameters are the file's own pages. Leaves it in
/// eval mode. Throws as `check_fit` does.
LoadReport load_weights(PreTrainedModel& model, const std::shared_ptr<const Checkpoint>& checkpoint,
                        const std::string& folder, const LoadOptions& options);

/// The model that `build` makes of a config on the meta device, for these weights. transformers 5.x ignores
/// `pruned_heads`, so a folder may carry the key though its weights are whole: then it is dropped with a warning.
template <typename Config, typename Build>
auto build_for(Config& config, const Checkpoint& checkpoint, const std::string& folder, const Build& build) {
  const ConstructionGuard guard({.device = c10::kMeta, .initialize = false});
  auto model = build(config);
  if (config.pruned_heads.empty() || match_weights(*model, checkpoint).mismatched.empty()) {
    return model;
  }
  auto pruned_heads = std::exchange(config.pruned_heads, {});
  auto whole = build(config);
  if (!match_weights(*whole, checkpoint).mismatched.empty()) {
    config.pruned_heads = std::move(pruned_heads);
    return model;
  }
  TORCH_WARN(config_path(folder), ": pruned_heads is ignored, no head is missing from the weights");
  return whole;
}

/// `Model` is a holder such as LlamaForCausalLM. Config, generation config and weights come from one save.
template <typename Model>
Model load_pretrained(const std::string& folder, const LoadOptions& options) {
  Model model{nullptr};
  read_one_save(folder, [&] {
    auto config = Model::Impl::Config::from_pretrained(folder);
    config.attn_implementation = options.attn_implementation;
    if (options.num_labels) {
      config.set_num_labels(*options.num_labels);
    }
    const auto checkpoint = open_checkpoint(folder, config, options);
    model = build_for(config, *checkpoint, folder, [](const auto& fitting) { return Model(fitting); });
    auto report = load_weights(*model, checkpoint, folder, options);
    if (options.report != nullptr) {
      *options.report = std::move(report);
    }
  });
  return model;
}

/// Makes `copy`, built alike, have the parameters of `model` in memory of its own, whatever their shapes: with their
/// ties, requires_grad, masks, buffers, training mode, hooks and linear methods. Moves to `device`, where one is given.
void copy_parameters(const torch::nn::Module& model, torch::nn::Module& copy,
                     const std::optional<torch::Device>& device);

/// A copy that is independent of the model, as `copy.deepcopy` makes one; what `clone()` of a model does. Adapters in
/// its layers are copied with it; `PeftModel::clone` copies them with what manages them. Hooks are the same functions.
/// Throws on a model whose parts lie in several places by a device map.
template <typename Impl>
std::shared_ptr<torch::nn::Module> clone_model(const Impl& model, const std::optional<torch::Device>& device) {
  std::shared_ptr<Impl> copy;
  {
    const ConstructionGuard guard({.device = c10::kMeta, .initialize = false});
    copy = std::make_shared<Impl>(static_cast<const typename Impl::Config&>(model.config()));
  }
  copy_parameters(model, *copy, device);
  if constexpr (requires { copy->generation_config; }) {
    copy->generation_config = model.generation_config;
  }
  return copy;
}

/// A model without a head: GPTJModel, LlamaModel.
class BaseModel : public PreTrainedModel {
 public:
  virtual BaseModelOutputWithPast forward(const ModelInputs& inputs) = 0;
  PreTrainedModel& base_model() override { return *this; }
  std::string base_model_prefix() const override { return {}; }
};

}  // namespace transformers

/// Defines the holder of a model class: TRANSFORMERS_MODULE and the static from_pretrained(folder, options).
#define TRANSFORMERS_MODEL(Name)                                                                              \
  class Name : public ::transformers::ModuleHolder<Name##Impl> {                                              \
   public:                                                                                                    \
    using ::transformers::ModuleHolder<Name##Impl>::ModuleHolder;                                             \
    using Impl = Name##Impl;                                                                                  \
    static Name from_pretrained(const std::string& folder, const ::transformers::LoadOptions& options = {}) { \
      return ::transformers::load_pretrained<Name>(folder, options);                                          \
    }                                                                                                         \
  }
