// Mirrors apply_tensor_parallelism of distributed/tensor_parallel.py, transformers 5.23.0. Deviation: the plan follows
// from what a layer is for, and vocabularies need not divide evenly.
#include <ATen/ATen.h>
#include <transformers/utils/distributed/module_sync.h>
#include <transformers/utils/distributed/together.h>
#include <transformers/utils/nn/linear_slices.h>
#include <transformers/utils/tensor_parallel/parallel_linear.h>
#include <transformers/utils/tensor_parallel/tensor_parallel.h>

#include <algorithm>
#include <set>
#include <unordered_map>

namespace transformers {
namespace {

constexpr int64_t kSyncBucketBytes = 25 << 20;

/// How a layer is split: which rows of the inputs to attention and MLP each rank gets.
struct LayerParts {
  ParameterSlices queries{}, keys{}, channels{};
  bool shares_keys = false;  // several ranks hold the same key/value head
};

void check_alike(const PreTrainedModel& model, const ProcessGroup& group) {
  std::vector<at::Tensor> tensors;
  std::vector<std::string> names;
  for (const auto& parameter : model.named_parameters()) {
    tensors.push_back(parameter.value());
    names.push_back(parameter.key());
  }
  verify_param_shape_across_processes(group, tensors, names);
}

void check_plain(const PreTrainedModel& model) {
  for (const auto& module : model.named_modules()) {
    const auto* linear = module.value()->as<LinearImpl>();
    const auto* method = linear == nullptr ? nullptr : linear->method().get();
    const bool is_plain = method == nullptr || dynamic_cast<const RowSlices*>(method) != nullptr ||
                          dynamic_cast<const ColumnSlices*>(method) != nullptr;
    TORCH_CHECK(is_plain, "tensor_parallelize: ", module.key(), " has its own linear method (adapted, quantised, ",
                "packed or split already); merge it or restore its plain linear method first");
  }
}

/// Distributes `units` units of `unit` entries each evenly over the ranks.
ParameterSlices even_slices(int64_t units, int64_t unit, int64_t ranks) {
  ParameterSlices slices{.dim = 0, .full = units * unit, .parts = even_parts(units, ranks)};
  for (auto& part : slices.parts) {
    part = {part.start * unit, part.length * unit};
  }
  return slices;
}

/// One head for each rank: the one that serves the rank's query heads.
ParameterSlices repeated_heads(int64_t heads, int64_t head_dim, int64_t ranks) {
  ParameterSlices slices{.dim = 0, .full = heads * head_dim, .parts = {}};
  for (int64_t rank = 0; rank < ranks; ++rank) {
    slices.parts.push_back({rank * heads / ranks * head_dim, head_dim});
  }
  return slices;
}

LayerParts parts_of(const LayerStructure& layer, int64_t number, int64_t head_dim, int64_t ranks) {
  const auto queries = layer.query->weight.size(0) / head_dim, keys = layer.key->weight.size(0) / head_dim,
             channels = layer.mlp_output->weight.size(1);
  TORCH_CHECK(queries % ranks == 0, "tensor_parallelize: layer ", number, ": ", queries,
              " attention heads cannot be split evenly over ", ranks, " ranks");
  TORCH_CHECK(keys % ranks == 0 || ranks % keys == 0, "tensor_parallelize: layer ", number, ": ", keys,
              " key/value heads cannot be split evenly over ", ranks, " ranks, nor each be held by as many of them");
  TORCH_CHECK(channels % ranks == 0, "tensor_parallelize: layer ", number, ": ", channels,
              " MLP channels cannot be split evenly over ", ranks, " ranks");
  const bool shares_keys = keys % ranks != 0;
  return {.queries = even_slices(queries, head_dim, ranks),
          .keys = shares_keys ? repeated_heads(keys, head_dim, ranks) : even_slices(keys, head_dim, ranks),
          .channels = even_slices(channels, 1, ranks),
          .shares_keys = shares_keys};
}

/// Splits a model's layers and records how each parameter was split.
class Splitter {
 public:
  explicit Splitter(const ProcessGroup& group) : group_(group) {}

  void split(const LayerStructure& layer, const LayerParts& parts) {
    const auto attention = std::make_shared<SharedInput>(group_, 3);
    const auto keys =
        std::make_shared<ColwiseParallel>(attention, parts.shares_keys ? parts.keys.parts : std::vector<Part>{});
    split_rows(layer.query, parts.queries, std::make_shared<ColwiseParallel>(attention));
    split_rows(layer.key, parts.keys, keys);
    split_rows(layer.value, parts.keys, keys);
    split_columns(layer.attention_output, parts.queries);

    const auto mlp = std::make_shared<SharedInput>(group_, static_cast<int64_t>(layer.mlp_inputs.size()));
    for (const auto& input : layer.mlp_inputs) {
      split_rows(input, parts.channels, std::make_shared<ColwiseParallel>(mlp));
    }
    split_columns(layer.mlp_output, parts.channels);
  }

  void split_vocabulary(Embedding embedding, Linear head) {
    const bool is_tied = head && head->weight.is_same(embedding->weight);
    const auto slices = even_slices(embedding->weight.size(0), 1, group_.size());
    make_vocabulary_parallel(embedding, group_);
    note(embedding->weight, slices);
    if (head) {
      split_head(head, is_tied ? embedding->weight : at::Tensor());
    }
  }

  /// The slices of a parameter; null if it is unsharded.
  const ParameterSlices* slices_of(const at::Tensor& parameter) const {
    const auto found = slices_.find(parameter.unsafeGetTensorImpl());
    return found == slices_.end() ? nullptr : &found->second;
  }

 private:
  /// shared: the slice of the embeddings that a tied output layer multiplies with.
  void split_head(Linear head, const at::Tensor& shared) {
    const auto tokens = head->weight.size(0);
    const auto slices = even_slices(tokens, 1, group_.size());
    replace(head, shared.defined() ? shared : own_slice(head->weight, slices), own_slice(head->bias, slices));
    if (shared.defined()) {
      head->tie_weight(shared);
    }
    note(head->weight, slices);
    note(head->bias, slices);
    head->set_method(std::make_shared<VocabularyParallel>(group_, tokens));
  }

  void split_rows(Linear layer, const ParameterSlices& slices, std::shared_ptr<const LinearMethod> method) {
    replace(layer, own_slice(layer->weight, slices), own_slice(layer->bias, slices));
    note(layer->weight, slices);
    note(layer->bias, slices);
    layer->set_method(std::move(method));
  }

  void split_columns(Linear layer, ParameterSlices slices) {
    slices.dim = 1;
    replace(layer, own_slice(layer->weight, slices), layer->bias);
    note(layer->weight, slices);
    layer->set_method(std::make_shared<RowwiseParallel>(group_));
  }

  /// The slice is copied, or the memory of the whole parameter would remain allocated.
  at::Tensor own_slice(const at::Tensor& parameter, const ParameterSlices& slices) const {
    if (!parameter.defined()) {
      return {};
    }
    const auto& part = slices.parts[static_cast<size_t>(group_.rank())];
    return parameter.detach().narrow(slices.dim, part.start, part.length).clone(at::MemoryFormat::Contiguous);
  }

  static void replace(Linear& layer, const at::Tensor& weight, const at::Tensor& bias) {
    const bool bias_requires_grad = layer->bias.defined() && layer->bias.requires_grad();
    layer->set_parameters(weight, bias);
    if (layer->bias.defined()) {
      layer->bias.requires_grad_(bias_requires_grad);
    }
  }

  void note(const at::Tensor& parameter, const ParameterSlices& slices) {
    if (parameter.defined()) {
      slices_[parameter.unsafeGetTensorImpl()] = slices;
    }
  }

  const ProcessGroup& group_;
  std::unordered_map<const void*, ParameterSlices> slices_;
};

bool is_repeated(const ParameterSlices& slices) {
  std::set<int64_t> starts;
  return !std::all_of(slices.parts.begin(), slices.parts.end(),
                      [&](const Part& part) { return starts.insert(part.start).second; });
}

/// Ranks that hold the same part get the values of the first of them.
void share_repeated(const ProcessGroup& group, const at::Tensor& parameter, const ParameterSlices& slices) {
  const auto own = parameter.detach().to(group.device()).reshape({-1});
  const auto all = at::empty({group.size(), own.numel()}, own.options());
  group.all_gather_into_tensor(all, own).wait();
  const auto start = slices.parts[static_cast<size_t>(group.rank())].start;
  const auto first =
      std::find_if(slices.parts.begin(), slices.parts.end(), [&](const Part& part) { return part.start == start; });
  parameter.detach().copy_(all[first - slices.parts.begin()].view(parameter.sizes()));
}

void check_tokens(const at::Tensor& weight, int64_t ranks) {
  TORCH_CHECK(weight.size(0) >= ranks, "tensor_parallelize: a vocabulary of ", weight.size(0),
              " tokens cannot be split over ", ranks, " ranks");
}

/// How each layer is split; throws if the model cannot be split.
std::vector<LayerParts> plan(PreTrainedModel& model, const ModelStructure& structure, int64_t ranks) {
  check_plain(model);
  check_tokens(model.get_input_embeddings()->weight, ranks);
  const auto head_dim = model.config().sizes().head_dim;
  std::vector<LayerParts> parts;
  for (const auto& layer : structure.layers) {
    parts.push_back(parts_of(layer, static_cast<int64_t>(parts.size()), head_dim, ranks));
  }
  return parts;
}

/// The plan, if all ranks could make one; else every rank throws the error of one of them.
std::vector<LayerParts> agreed_plan(PreTrainedModel& model, const ModelStructure& structure,
                                    const ProcessGroup& group) {
  std::vector<LayerParts> parts;
  together(group, [&] { parts = plan(model, structure, group.size()); });
  return parts;
}

}  // namespace

TensorParallel tensor_parallelize(PreTrainedModel& model, const ProcessGroup& group) {
  check_alike(model, group);
  const auto structure = model.structure();
  const auto parts = agreed_plan(model, structure, group);
  Splitter splitter(group);
  splitter.split_vocabulary(model.get_input_embeddings(), model.get_output_embeddings());
  for (size_t i = 0; i < parts.size(); ++i) {
    splitter.split(structure.layers[i], parts[i]);
  }
  TensorParallel parallel{group};
  std::vector<at::Tensor> whole;
  for (const auto& parameter : model.named_parameters()) {
    if (const auto* slices = splitter.slices_of(parameter.value())) {
      parallel.slices[parameter.key()] = *slices;
      if (is_repeated(*slices)) {
        share_repeated(group, parameter.value(), *slices);
      }
    } else {
      whole.push_back(parameter.value().detach());
    }
  }
  sync_params_and_buffers(group, whole, kSyncBucketBytes, 0);
  return parallel;
}

}  // namespace transformers
