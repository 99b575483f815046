// Mirrors modeling_utils.py, transformers 5.23.0.
#include <ATen/ATen.h>
#include <torch/nn/modules/embedding.h>
#include <transformers/utils/files/save_transaction.h>
#include <transformers/utils/io/checkpoint.h>
#include <transformers/utils/modeling/base_model.h>
#include <transformers/utils/modeling/pretrained_model.h>

#include <algorithm>
#include <array>
#include <set>
#include <unordered_set>

#include "utils/modeling/init_parameter.h"
#include "utils/placement/internal/placement.h"

namespace transformers {
namespace {

/// HF also recognises norms by their class name.
bool is_norm(const torch::nn::Module& module) { return module.name().find("Norm") != std::string::npos; }

// Files that an earlier save may have left and that would be taken for part of this one: transformers applies an
// adapter that is in the same folder as a model.
constexpr std::array kFilesOfAdapters{"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"};

}  // namespace

void init_parameter(torch::nn::Module& module, const std::string& name, at::Tensor tensor, double initializer_range) {
  const at::NoGradGuard no_grad;
  if (auto* own = dynamic_cast<OwnInitialValues*>(&module)) {
    own->init_parameter(name, std::move(tensor));
    return;
  }
  if (is_norm(module)) {
    tensor.fill_(name == "weight" ? 1.0 : 0.0);
  } else if (name == "bias") {
    tensor.zero_();
  } else {
    tensor.normal_(0.0, initializer_range);
  }
  if (auto* embedding = module.as<torch::nn::EmbeddingImpl>();
      embedding != nullptr && embedding->options.padding_idx()) {
    tensor[*embedding->options.padding_idx()].zero_();
  }
}

void PreTrainedModel::init_weights() {
  const auto init = [&](torch::nn::Module& module) {
    for (const auto& parameter : module.named_parameters(/*recurse=*/false)) {
      init_parameter(module, parameter.key(), parameter.value(), config().initializer_range);
    }
  };
  // Called by constructors, in which `this` has no shared_ptr yet and cannot be among its modules().
  init(*this);
  for (const auto& module : modules(/*include_self=*/false)) {
    init(*module);
  }
}

void PreTrainedModel::post_init() {
  const auto& construction = construction_options();
  if (construction.initialize && construction.device != c10::kMeta) {
    init_weights();
  }
  tie_weights();
}

void PreTrainedModel::gradient_checkpointing_enable(int64_t every_n) {
  TORCH_CHECK(every_n > 0, "gradient checkpointing of every n-th block needs a positive n, got ", every_n);
  base_model().checkpoint_every(every_n);
}

void PreTrainedModel::gradient_checkpointing_disable() { base_model().checkpoint_every(0); }

bool PreTrainedModel::is_gradient_checkpointing() { return base_model().checkpoint_every() > 0; }

void PreTrainedModel::enable_input_require_grads() { base_model().require_grads_of_embeddings(); }

void PreTrainedModel::disable_input_require_grads() { base_model().stop_requiring_grads_of_embeddings(); }

void PreTrainedModel::read_generation_config(const ModelFolder&) {}

void PreTrainedModel::copy_settings(const PreTrainedModel&) {}

Embedding PreTrainedModel::get_input_embeddings() { return base_model().get_input_embeddings(); }

void PreTrainedModel::set_input_embeddings(Embedding embeddings) {
  base_model().set_input_embeddings(std::move(embeddings));
}

void PreTrainedModel::set_output_embeddings(Linear) { TORCH_CHECK(false, architecture(), " has no output embeddings"); }

void PreTrainedModel::tie_weights() {
  auto output = get_output_embeddings();
  if (config().tie_word_embeddings && output) {
    output->tie_weight(get_input_embeddings()->weight);
  }
}

std::string PreTrainedModel::architecture() const {
  // "transformers::LlamaForCausalLMImpl"
  const auto& name = this->name();
  const auto begin = name.rfind(':') == std::string::npos ? 0 : name.rfind(':') + 1;
  const auto end = name.ends_with("Impl") ? name.size() - 4 : name.size();
  return name.substr(begin, end - begin);
}

int64_t PreTrainedModel::num_parameters(bool only_trainable, bool exclude_embeddings) const {
  std::unordered_set<const void*> seen;
  if (exclude_embeddings) {
    for (const auto& module : modules()) {
      if (const auto* embedding = module->as<torch::nn::EmbeddingImpl>()) {
        seen.insert(embedding->weight.unsafeGetTensorImpl());
      }
    }
  }
  int64_t count = 0;
  for (const auto& parameter : parameters()) {
    if (seen.insert(parameter.unsafeGetTensorImpl()).second && (!only_trainable || parameter.requires_grad())) {
      count += parameter.numel();
    }
  }
  return count;
}

int64_t PreTrainedModel::get_memory_footprint(bool with_buffers) const {
  std::unordered_set<const void*> seen;
  int64_t bytes = 0;
  for (const auto& module : modules()) {
    const auto* linear = module->as<LinearImpl>();
    if (linear != nullptr && linear->method() != nullptr && linear->method()->bytes() > 0) {
      bytes += linear->method()->bytes();
      seen.insert(linear->weight.unsafeGetTensorImpl());  // a meta tensor without memory
    }
  }
  const auto add = [&](const at::Tensor& tensor) {
    bytes += seen.insert(tensor.unsafeGetTensorImpl()).second ? static_cast<int64_t>(tensor.nbytes()) : 0;
  };
  for (const auto& parameter : parameters()) {
    add(parameter);
  }
  for (const auto& module : with_buffers ? modules() : std::vector<std::shared_ptr<torch::nn::Module>>{}) {
    for (const auto& buffer : module->buffers(/*recurse=*/false)) {
      add(buffer);
    }
    if (const auto* own = module->as<Module>()) {
      for (const auto& [name, buffer] : own->non_persistent_buffers()) {
        add(buffer);
      }
    }
  }
  return bytes;
}

ModelStructure PreTrainedModel::structure() {
  auto structure = base_model().structure();
  for (const auto& child : children()) {
    if (auto head = std::dynamic_pointer_cast<LinearImpl>(child)) {
      structure.heads.emplace_back(std::move(head));
    }
  }
  return structure;
}

c10::ScalarType PreTrainedModel::dtype() const {
  for (const auto& parameter : parameters()) {
    if (parameter.is_floating_point()) {
      return parameter.scalar_type();
    }
  }
  return construction_options().dtype;
}

c10::Device PreTrainedModel::device() const {
  if (placement_) {
    return placement_->main_device;
  }
  const auto all = parameters();
  const auto found = std::find_if(all.begin(), all.end(), [](const auto& parameter) { return !parameter.is_meta(); });
  return all.empty() ? construction_options().device : (found == all.end() ? all.front() : *found).device();
}

const DeviceMap& PreTrainedModel::hf_device_map() const {
  static const DeviceMap kOnePlace;
  return placement_ ? placement_->device_map : kOnePlace;
}

std::vector<std::string> PreTrainedModel::no_split_modules() {
  std::set<std::string> names;
  for (const auto& layer : base_model().structure().layers) {
    names.insert(module_sizes(*layer.block).class_name);
  }
  return {names.begin(), names.end()};
}

void PreTrainedModel::set_placement(const std::shared_ptr<const Placement>& placement) {
  base_model().set_block_devices(place(*this, *placement, base_model().structure().blocks()));
  placement_ = placement;
}

void PreTrainedModel::check_movable() {
  TORCH_CHECK(!placement_ && base_model().block_devices().empty(), architecture(),
              " lies in several places by its device map and can be neither moved nor cast");
}

void PreTrainedModel::check_unplaced() {
  TORCH_CHECK(!placement_ && base_model().block_devices().empty(), architecture(),
              " was placed by a device map and can be neither pruned nor resized; load it without one");
}

void PreTrainedModel::to(torch::Device device, torch::Dtype dtype, bool non_blocking) {
  check_movable();
  Module::to(device, dtype, non_blocking);
}

void PreTrainedModel::to(torch::Dtype dtype, bool non_blocking) {
  check_movable();
  Module::to(dtype, non_blocking);
}

void PreTrainedModel::to(torch::Device device, bool non_blocking) {
  check_movable();
  Module::to(device, non_blocking);
}

void PreTrainedModel::save_pretrained(const std::string& folder, const SaveOptions& options) {
  SaveTransaction save(folder);
  save_pretrained(save, options);
  save.commit();
}

void PreTrainedModel::save_pretrained(SaveTransaction& save, const SaveOptions& options) {
  const auto tokens = get_input_embeddings()->weight.size(0);
  TORCH_CHECK(tokens == config().vocab_size, save.folder(), ": the embeddings hold ", tokens, " of the config's ",
              config().vocab_size, " tokens; a model that is split over ranks is saved by its group");
  const auto state = whole_state_dict(*this, placement_.get());
  // The dtype of the present weights, which may differ from that of the config when they were loaded.
  if (const auto output = get_output_embeddings(); output && !placement_ && output->method() == nullptr) {
    config().tie_word_embeddings = output->weight.is_same(get_input_embeddings()->weight);
  }
  save_pretrained(save, options, [&] { add_checkpoint(save, state, {.max_shard_size = options.max_shard_size}); });
}

void PreTrainedModel::save_pretrained(SaveTransaction& save, const SaveOptions& options,
                                      const std::function<void()>& add_weights) {
  const auto reason = config().inexpressible();
  TORCH_CHECK(reason.empty() || options.extended, save.folder(),
              ": this pruned model cannot be saved so that transformers ", "loads it: ", reason,
              "; set heads, channels or layers to zero instead, or save in the library-only form ",
              "(SaveOptions::extended)");
  TORCH_CHECK(options.max_shard_size > 0, "max_shard_size must be positive, found ", options.max_shard_size);
  if (!options.keep_architectures) {
    config().architectures = {architecture()};
  }
  config().dtype = dtype();
  for (const char* name : kFilesOfAdapters) {
    save.remove(name);
  }
  add_weights();
  if (const auto text = generation_config_json(); !text.empty()) {
    save.write("generation_config.json", text);
  }
  const auto format = options.config_format;
  save.write("config.json", reason.empty() ? config().to_plain_json(format) : config().to_json(format));
}

}  // namespace transformers
