// Mirrors peft_model.py, tuners/tuners_utils.py and tuners/lora/model.py, peft 0.21.2. Deviations: modules to save
// exchange the data of the model's own parameters, which an optimizer therefore sees as one tensor for all adapters;
// merging onto merged weights, and a merge of a tied weight, are errors.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <transformers/utils/peft/peft_model.h>

#include <algorithm>
#include <set>

#include "utils/peft/peft_state.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

std::map<const c10::TensorImpl*, int> uses_of_parameters(const torch::nn::Module& model) {
  std::map<const c10::TensorImpl*, int> uses;
  for (const auto& parameter : model.parameters()) {
    ++uses[parameter.unsafeGetTensorImpl()];
  }
  return uses;
}

bool is_half(c10::ScalarType dtype) { return dtype == at::kHalf || dtype == at::kBFloat16; }

}  // namespace

PeftModelImpl::PeftModelImpl(std::shared_ptr<torch::nn::Module> model) : state_(std::make_unique<State>()) {
  TORCH_CHECK(model != nullptr, "PeftModel needs a model");
  for (const auto& item : model->named_modules()) {
    const auto* linear = dynamic_cast<const LinearImpl*>(item.value().get());
    TORCH_CHECK(linear == nullptr || dynamic_cast<const LoraLinear*>(linear->method().get()) == nullptr, item.key(),
                " has adapters of another PeftModel; add to that one or unload it");
  }
  state_->model = register_module("base_model", std::move(model));
  state_->adapters_module = register_module("adapters", std::make_shared<Module>());
}

PeftModelImpl::~PeftModelImpl() = default;

const PeftModelImpl::Adapter& PeftModelImpl::adapter(const std::string& name) const {
  const auto* found = state_->find(name);
  TORCH_CHECK(found != nullptr, "there is no adapter \"", printable(name), "\"");
  return *found;
}

void PeftModelImpl::check_new(const std::string& name, const LoraConfig& config) const {
  config.validate();
  TORCH_CHECK(!name.empty() && name.find('.') == std::string::npos,
              "an adapter's name must not be empty or hold a dot, got \"", printable(name), "\"");
  TORCH_CHECK(state_->find(name) == nullptr, "there is an adapter \"", printable(name), "\" already");
  TORCH_CHECK(!merged(), "unmerge the adapters before adding one");
  const bool other_has_bias = std::any_of(state_->adapters.begin(), state_->adapters.end(),
                                          [](const auto& a) { return a.config.bias != LoraBias::kNone; });
  TORCH_CHECK(config.bias == LoraBias::kNone || !other_has_bias,
              "only one adapter of a model may train biases: they are the model's own");
}

PeftModelImpl::Parts PeftModelImpl::make_parts(const LoraConfig& config, bool autocast_adapter_dtype,
                                               bool shapes_only) const {
  auto plan = plan_adapter(*state_->model, config);
  const auto parameters = state_->model->named_parameters();
  const auto uses = uses_of_parameters(*state_->model);
  for (const auto& name : plan.saved_parameters) {
    TORCH_CHECK(!config.ensure_weight_tying || uses.at(parameters[name].unsafeGetTensorImpl()) == 1, name,
                " is tied to another parameter: ensure_weight_tying is not supported in modules_to_save");
  }
  for (const auto& target : plan.targets) {
    TORCH_CHECK(target.linear->weight.is_floating_point(), target.name, ": an adapter needs a floating weight, got ",
                target.linear->weight.scalar_type());
    TORCH_CHECK(LoraLinear::fits(target.linear->method().get()), target.name,
                ": an adapter goes beside a plain, sliced, packed or quantised weight only");
  }
  Parts parts;
  for (auto& target : plan.targets) {
    const auto dtype = target.linear->weight.scalar_type();
    LoraWeights weights(target, config, autocast_adapter_dtype && is_half(dtype) ? at::kFloat : dtype,
                        shapes_only ? std::make_optional<c10::Device>(at::kMeta) : std::nullopt);
    parts.layers.emplace_back(std::move(target), std::move(weights));
  }
  for (const auto& name : plan.saved_parameters) {
    const auto slot = state_->exchanged.find(name);
    const bool away = slot != state_->exchanged.end() && !slot->second.holder.empty();
    const auto values = (away ? slot->second.base : parameters[name]).detach();
    parts.saved.emplace(name, shapes_only ? values : values.clone());
  }
  return parts;
}

void PeftModelImpl::add_adapter(const std::string& name, LoraConfig config, const AdapterOptions& options) {
  config = resolved(std::move(config), *state_->model);
  check_new(name, config);
  TORCH_CHECK(config.init_lora_weights != LoraInit::kEva && config.init_lora_weights != LoraInit::kOrthogonal,
              "init_lora_weights \"eva\" and \"orthogonal\" are for adapters that are loaded");
  auto parts = make_parts(config, options.autocast_adapter_dtype);
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(options.seed);
  for (auto& [target, weights] : parts.layers) {
    weights->initialize(*target.linear, config.init_lora_weights, generator);
  }
  insert(name, std::move(config), std::move(parts));
}

void PeftModelImpl::insert(const std::string& name, LoraConfig config, Parts parts) {
  const auto home = state_->adapters_module->register_module(name, std::make_shared<Module>());
  home->train(is_training());
  for (const auto& [target, weights] : parts.layers) {
    home->register_module(module_name(target.name), weights.ptr());
    auto& layer = state_->layers[target.name];
    if (layer.linear == nullptr) {
      layer = {target.linear, std::make_shared<LoraLinear>(target.linear->method())};
      target.linear->set_method(layer.method);
    }
  }
  untie(parts);
  for (const auto& [parameter, unused] : parts.saved) {
    state_->exchanged.try_emplace(parameter,
                                  State::Exchanged{.parameter = state_->model->named_parameters()[parameter]});
  }
  state_->adapters.push_back({name, std::move(config), std::move(parts)});
  if (state_->adapters.size() == 1) {
    state_->active = {name};
  }
  refresh();
}

void PeftModelImpl::untie(const Parts& parts) {
  const auto parameters = state_->model->named_parameters();
  std::set<const c10::TensorImpl*> saved;
  for (const auto& [name, unused] : parts.saved) {
    saved.insert(parameters[name].unsafeGetTensorImpl());
  }
  const auto uses = uses_of_parameters(*state_->model);
  for (const auto& module : state_->model->modules()) {
    auto linear = std::dynamic_pointer_cast<LinearImpl>(module);
    const auto* weight = linear == nullptr ? nullptr : linear->weight.unsafeGetTensorImpl();
    if (weight != nullptr && saved.contains(weight) && uses.at(weight) > 1) {
      state_->untied.emplace_back(linear, linear->weight);
      linear->tie_weight(linear->weight.detach());  // the same memory until one of them is replaced
    }
  }
  state_->note_tie();
}

void PeftModelImpl::refresh() {
  std::map<const LinearImpl*, std::vector<LoraWeights>> active;
  for (const auto& name : state_->enabled ? state_->active : std::vector<std::string>{}) {
    for (const auto& [target, weights] : state_->find(name)->parts.layers) {
      active[target.linear.get()].push_back(weights);
    }
  }
  for (auto& [name, layer] : state_->layers) {
    layer.method->set_active(active[layer.linear.get()]);
  }
  for (auto& [name, slot] : state_->exchanged) {
    state_->exchange(name, slot, state_->holder_of(name));
  }
  state_->set_requires_grad();
}

void PeftModelImpl::delete_adapter(const std::string& name) {
  adapter(name);
  TORCH_CHECK(!merged(), "unmerge the adapters before deleting one");
  std::erase(state_->active, name);
  const auto other =
      std::find_if(state_->adapters.begin(), state_->adapters.end(), [&](const auto& a) { return a.name != name; });
  if (state_->active.empty() && other != state_->adapters.end()) {
    state_->active = {other->name};
  }
  refresh();
  std::erase_if(state_->adapters, [&](const auto& a) { return a.name == name; });
  state_->adapters_module->unregister_module(name);
}

void PeftModelImpl::set_adapter(const std::vector<std::string>& names) {
  std::map<std::string, std::string> owners;
  for (const auto& name : names) {
    TORCH_CHECK(std::count(names.begin(), names.end(), name) == 1, "set_adapter names \"", printable(name), "\" twice");
    for (const auto& [parameter, unused] : adapter(name).parts.saved) {
      const auto [owner, is_new] = owners.emplace(parameter, name);
      TORCH_CHECK(is_new, "adapters \"", owner->second, "\" and \"", name, "\" both replace ", parameter,
                  " and cannot work together");
    }
  }
  unmerge_adapter();
  if (names != state_->active) {
    for (auto& [name, slot] : state_->exchanged) {
      slot.parameter.mutable_grad().reset();
    }
  }
  state_->active = names;
  refresh();
}

const std::vector<std::string>& PeftModelImpl::active_adapters() const { return state_->active; }

std::vector<std::string> PeftModelImpl::adapter_names() const {
  std::vector<std::string> names;
  for (const auto& adapter : state_->adapters) {
    names.push_back(adapter.name);
  }
  return names;
}

const LoraConfig& PeftModelImpl::peft_config(const std::string& name) const { return adapter(name).config; }

void PeftModelImpl::enable_adapters(bool enabled) {
  if (!enabled) {
    unmerge_adapter();
  }
  state_->enabled = enabled;
  refresh();
}

bool PeftModelImpl::adapters_enabled() const { return state_->enabled; }

void PeftModelImpl::check_mergeable() const {
  TORCH_CHECK(!merged(), "the adapters are merged already");
  TORCH_CHECK(state_->enabled, "the adapters are switched off");
  TORCH_CHECK(!state_->active.empty(), "there is no active adapter to merge");
  const auto uses = uses_of_parameters(*state_->model);
  for (const auto& name : state_->active) {
    for (const auto& [target, weights] : state_->find(name)->parts.layers) {
      TORCH_CHECK(!target.linear->weight.is_meta(), target.name,
                  ": its weight is quantised, a merge would round it again; dequantize the model first");
      TORCH_CHECK(uses.at(target.linear->weight.unsafeGetTensorImpl()) == 1, target.name,
                  ": its weight is tied to another module's, which a merge would change too");
      TORCH_CHECK(!weights->lora_B_bias.defined() || target.linear->bias.defined(), target.name,
                  ": lora_bias cannot be merged into a layer without a bias");
    }
  }
}

void PeftModelImpl::merge_adapter() {
  check_mergeable();
  std::map<std::string, std::vector<LoraWeights>> chosen;
  for (const auto& name : state_->active) {
    for (const auto& [target, weights] : state_->find(name)->parts.layers) {
      for (const auto& parameter : weights->parameters()) {
        TORCH_CHECK(at::isfinite(parameter).all().item<bool>(), "adapter \"", name, "\" is not finite at ",
                    target.name);
      }
      chosen[target.name].push_back(weights);
    }
  }
  for (const auto& [name, weights] : chosen) {
    const auto& layer = state_->layers.at(name);
    layer.method->merge(*layer.linear, weights);
  }
}

void PeftModelImpl::unmerge_adapter() {
  for (auto& [name, layer] : state_->layers) {
    layer.method->unmerge(*layer.linear);
  }
}

bool PeftModelImpl::merged() const {
  return std::any_of(state_->layers.begin(), state_->layers.end(),
                     [](const auto& item) { return item.second.method->merged(); });
}

void PeftModelImpl::merge_and_unload() {
  if (!merged()) {
    merge_adapter();
  }
  remove_all();
}

void PeftModelImpl::unload() {
  enable_adapters(false);
  for (const auto& [linear, shared] : state_->untied) {
    linear->tie_weight(shared);
  }
  state_->note_tie();
  remove_all();
}

void PeftModelImpl::remove_all() {
  for (auto& [name, layer] : state_->layers) {
    layer.linear->set_method(layer.method->base());
  }
  for (const auto& adapter : state_->adapters) {
    state_->adapters_module->unregister_module(adapter.name);
  }
  auto fresh = std::make_unique<State>();
  fresh->model = state_->model;
  fresh->adapters_module = state_->adapters_module;
  state_ = std::move(fresh);
  state_->set_requires_grad();
}

TrainableParameters PeftModelImpl::get_nb_trainable_parameters() const {
  TrainableParameters count;
  std::set<const c10::TensorImpl*> seen;
  for (const auto& parameter : parameters()) {
    if (seen.insert(parameter.unsafeGetTensorImpl()).second) {
      count.all += parameter.numel();
      count.trainable += parameter.requires_grad() ? parameter.numel() : 0;
    }
  }
  for (const auto& adapter : state_->adapters) {
    for (const auto& [name, unused] : adapter.parts.saved) {
      count.all += state_->exchanged.at(name).parameter.numel();
    }
  }
  return count;
}

}  // namespace transformers
