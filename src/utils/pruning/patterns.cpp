// Finds the layer that reads a layer's output, after the patterns of base_structured_sparsifier.py and match_utils.py,
// torch 2.11.0. BlockMatcher walks a chain of module names and functions from one layer to the next.
#include <c10/util/Exception.h>
#include <transformers/utils/nn/layer_norm.h>
#include <transformers/utils/nn/linear.h>
#include <transformers/utils/pruning/patterns.h>
#include <transformers/utils/pruning/stack_sequential.h>

#include "utils/pruning/exact_class.h"

namespace transformers {
namespace {

namespace nn = torch::nn;
using Modules = torch::OrderedDict<std::string, std::shared_ptr<nn::Module>>;

std::string joined(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

bool is_sequential(const nn::Module& module) { return is_exactly<nn::SequentialImpl, StackSequentialImpl>(&module); }
bool is_linear(const nn::Module* module) { return is_exactly<nn::LinearImpl, LinearImpl>(module); }
bool is_conv2d(const nn::Module* module) { return is_exactly<nn::Conv2dImpl>(module); }
bool is_layer_norm(const nn::Module* module) { return is_exactly<nn::LayerNormImpl, LayerNormImpl>(module); }

void flatten_into(const nn::Module& sequential, const std::string& prefix, Chain& chain) {
  for (const auto& child : sequential.named_children()) {
    const auto name = joined(prefix, child.key());
    if (is_sequential(*child.value())) {
      flatten_into(*child.value(), name, chain);
    } else {
      chain.emplace_back(name);
    }
  }
}

/// The chains of a module and of all modules inside it; a Sequential inside another one is already part of that one's
/// chain.
void collect_chains(const nn::Module& module, const std::string& prefix, bool is_part, std::vector<Chain>& chains) {
  if (is_sequential(module) && !is_part) {
    Chain chain;
    flatten_into(module, prefix, chain);
    if (prefix.empty()) {
      chain.emplace_back(kOutput);
    }
    chains.push_back(std::move(chain));
  }
  for (const auto& child : module.named_children()) {
    collect_chains(*child.value(), joined(prefix, child.key()), is_sequential(module), chains);
  }
}

/// The position of a layer in a chain.
struct Place {
  const Chain* chain;
  size_t index;
};

const std::string* name_at(const Chain& chain, size_t index) {
  return index < chain.size() ? std::get_if<std::string>(&chain[index]) : nullptr;
}

/// The position of the layer at which something follows it.
Place place_of(const std::vector<Chain>& chains, const std::string& layer) {
  std::vector<Place> places;
  for (const auto& chain : chains) {
    for (size_t i = 0; i + 1 < chain.size(); ++i) {
      if (const auto* name = name_at(chain, i); name != nullptr && *name == layer) {
        places.push_back({&chain, i});
      }
    }
  }
  TORCH_CHECK(!places.empty(), "'", layer,
              "' cannot be pruned: what reads its output is not known, no Sequential or chain continues from it");
  TORCH_CHECK(places.size() == 1, "'", layer, "' cannot be pruned: it is followed by ", places.size(),
              " chains, a branch");
  return places.front();
}

/// What a step of a chain does to channels; none if the element is not such a step.
struct StepOf {
  const Modules& modules;

  std::optional<ChannelStep> operator()(const std::string& name) const { return ChannelStep::of(*modules[name]); }
  std::optional<ChannelStep> operator()(const ElementwiseFunction& function) const { return ChannelStep(function); }
  std::optional<ChannelStep> operator()(ChainOutput) const { return std::nullopt; }
  std::optional<ChannelStep> operator()(ChainFlatten) const { return std::nullopt; }
  template <typename Options>
  std::optional<ChannelStep> operator()(const Options& pooling) const {
    return ChannelStep::of(pooling);
  }
};

/// Follows a chain from a layer to the layer that reads its output.
class BlockMatcher {
 public:
  BlockMatcher(const Modules& modules, Place place) : modules_(modules), chain_(*place.chain), at_(place.index) {
    block_.name = *name_at(chain_, at_);
    block_.layer = modules_[block_.name];
    ++at_;
  }

  PruneBlock match() {
    if (is_exactly<nn::LSTMImpl>(block_.layer.get())) {
      match_lstm();
    } else if (is_linear(block_.layer.get())) {
      match_channels(/*is_image=*/false);
    } else if (is_conv2d(block_.layer.get())) {
      match_channels(/*is_image=*/true);
    } else {
      TORCH_CHECK(false, "'", block_.name, "' (", block_.layer->name(),
                  ") cannot be pruned: only Linear, Conv2d and LSTM have patterns");
    }
    return std::move(block_);
  }

 private:
  std::shared_ptr<nn::Module> module() const {
    const auto* name = name_at(chain_, at_);
    return name != nullptr ? modules_[*name] : nullptr;
  }

  [[noreturn]] void refuse() const {
    TORCH_CHECK(at_ < chain_.size(), "'", block_.name,
                "' cannot be pruned: what reads its output after the chain's end is not known");
    const auto* name = name_at(chain_, at_);
    TORCH_CHECK(name != nullptr, "'", block_.name, "' (", block_.layer->name(),
                ") cannot be pruned: its output does not go on to a layer that fits it");
    TORCH_CHECK(false, "'", block_.name, "' (", block_.layer->name(), ") cannot be pruned: it is followed by '", *name,
                "' (", modules_[*name]->name(), "), which no pattern knows there");
  }

  void read_by(std::shared_ptr<nn::Module> next) {
    block_.next = std::move(next);
    block_.next_name = *name_at(chain_, at_);
  }

  void match_lstm() {
    if (is_layer_norm(module().get())) {
      block_.norm = std::dynamic_pointer_cast<nn::LayerNormImpl>(module());
      ++at_;
    }
    if (!is_linear(module().get())) {
      refuse();
    }
    read_by(module());
  }

  bool take_step(bool is_image) {
    auto step = at_ < chain_.size() ? std::visit(StepOf{modules_}, chain_[at_]) : std::nullopt;
    if (!step || (step->is_pooling() && !is_image)) {
      return false;
    }
    block_.steps.push_back(std::move(*step));
    return true;
  }

  bool take_flatten() const {
    if (at_ < chain_.size() && std::holds_alternative<ChainFlatten>(chain_[at_])) {
      return true;
    }
    if (!is_exactly<nn::FlattenImpl>(module().get())) {
      return false;
    }
    const auto& options = dynamic_cast<const nn::FlattenImpl&>(*module()).options;
    return options.start_dim() == 1 && options.end_dim() == -1;
  }

  void match_channels(bool is_image) {
    bool is_flat = !is_image;
    while (true) {
      if (is_image && !is_flat && take_flatten()) {
        is_flat = true;
      } else if (!take_step(/*is_image=*/!is_flat)) {
        break;
      }
      ++at_;
    }
    const bool ends = at_ < chain_.size() && std::holds_alternative<ChainOutput>(chain_[at_]);
    if (ends && is_flat == !is_image) {
      return;
    }
    const bool fits = is_flat ? is_linear(module().get()) : is_conv2d(module().get());
    if (!fits) {
      refuse();
    }
    read_by(module());
  }

  const Modules& modules_;
  const Chain& chain_;
  size_t at_;
  PruneBlock block_;
};

void check_names(const Modules& modules, const std::vector<Chain>& chains) {
  std::string unknown;
  for (const auto& chain : chains) {
    for (size_t i = 0; i < chain.size(); ++i) {
      if (const auto* name = name_at(chain, i); name != nullptr && !modules.contains(*name)) {
        unknown += (unknown.empty() ? "'" : ", '") + *name + "'";
      }
      const bool is_end = std::holds_alternative<ChainOutput>(chain[i]);
      TORCH_CHECK(!is_end || i + 1 == chain.size(), "a chain must end where the model's output is reached");
    }
  }
  TORCH_CHECK(unknown.empty(), "the model has no module named ", unknown);
}

}  // namespace

std::vector<Chain> sequential_chains(const nn::Module& model) {
  std::vector<Chain> chains;
  collect_chains(model, "", /*is_part=*/false, chains);
  return chains;
}

std::vector<PruneBlock> match_blocks(const nn::Module& model, const std::vector<Chain>& chains,
                                     const std::vector<std::string>& layers) {
  const auto modules = model.named_modules("", /*include_self=*/false);
  check_names(modules, chains);
  std::vector<PruneBlock> blocks;
  for (const auto& layer : layers) {
    blocks.push_back(BlockMatcher(modules, place_of(chains, layer)).match());
  }
  return blocks;
}

}  // namespace transformers
