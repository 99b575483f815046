#pragma once

/// \file
/// The room utils/tensor_parallel splits the matrices of a model over ranks that compute every layer together on the
/// same inputs. It exchanges data in every layer, so ranks should share a machine. To split by layers use
/// utils/pipeline, to split only the memory of training use utils/fully_sharded.
///
///     const auto group = init_process_group();
///     auto [model, parallel] = load_tensor_parallel<LlamaForCausalLM>("llama-2-7b", group);
///     const auto output = model->forward({.input_ids = ids});  // the same ids on all ranks
///     save_pretrained(*model, parallel, "copy");

#include <transformers/export.h>
#include <transformers/utils/distributed/process_group.h>
#include <transformers/utils/distributed/together.h>
#include <transformers/utils/modeling/from_pretrained.h>
#include <transformers/utils/tensor_parallel/collectives.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// How a parameter is split: one dimension of `full` entries, of which rank r holds `parts[r]`. Parts of several ranks
/// may be the same.
struct ParameterSlices {
  int64_t dim = 0;
  int64_t full = 0;
  std::vector<Part> parts{};
};

/// A model that a group of ranks holds together, as `tensor_parallelize` left it.
struct TensorParallel {
  ProcessGroup group;
  /// By the names of the model's state dict. Those that are not in it are whole, and alike on all ranks.
  std::map<std::string, ParameterSlices> slices{};
};

/// Splits a model over the ranks of a group, in place: query, key and value by heads, the MLP by channels, embeddings
/// and the head of a causal LM by tokens; norms and the heads of classifiers stay whole, with the values of rank 0.
/// Where there are fewer key/value heads than ranks, several ranks hold the same one, with the values of the first of
/// them. What is kept is copied, so that a model whose weights are a file's pages reads only those of its slices.
///
/// Afterwards the model is called as before, by all ranks with the same inputs: logits, losses and gradients are those
/// of one process, caches and attentions those of the rank's heads. Parameters are new ones: an optimizer is built
/// afterwards, and gradients are clipped by the function below. Dropout and sampling need the same seed on all ranks;
/// head masks and masks that differ by head are not supported. Splitting is the last change to a model: it can be
/// neither resized, pruned nor saved by its own functions any more, see save_pretrained below.
///
/// Throws on all ranks, changing nothing, when the models differ in shape, when a layer has its own linear method
/// (adapted, quantised, packed, split already), when the number of ranks does not divide the number of query heads or
/// channels, neither divides nor is a multiple of the number of key/value heads, or exceeds the vocabulary size.
TensorParallel tensor_parallelize(PreTrainedModel& model, const ProcessGroup& group);

/// Scales the gradients of a split model so that their norm, over all ranks, is at most `max_norm`; returns the norm
/// before, fp32 []. A `max_norm` of 0 or less only measures. All ranks call it. Mirrors
/// `torch.nn.utils.clip_grad_norm_`.
at::Tensor clip_grad_norm_(const PreTrainedModel& model, const TensorParallel& parallel, double max_norm);

/// The whole state dict, on the CPU of rank `dst`; empty on the others. All ranks call it. One parameter at a time is
/// on its way.
StateDict gather_state_dict(const PreTrainedModel& model, const TensorParallel& parallel, int64_t dst = 0);

/// `save_pretrained` of the whole model, by rank 0 of the group; all ranks call it. Returns when the folder is there;
/// throws on all ranks when rank 0 cannot write it.
void save_pretrained(const PreTrainedModel& model, const TensorParallel& parallel, const std::string& folder,
                     const SaveOptions& options = {});

namespace detail {
/// On the CPU in the stored dtype, where there is one, in which nothing is read before it is used.
LoadOptions as_stored(const std::string& folder, const LoadOptions& options);
/// To the dtype and device that `from_pretrained` would have chosen.
void finish_loading(PreTrainedModel& model, const std::string& folder, const LoadOptions& options);
}  // namespace detail

/// `Model::from_pretrained` followed by `tensor_parallelize`, so that each rank reads and converts its slices alone.
/// `Model`: a holder such as LlamaForCausalLM, or a class such as AutoModelForCausalLM. Returns the model and its
/// slices. Throws as both do, on all ranks when one cannot read. A folder of several floating dtypes is read whole.
template <typename Model>
auto load_tensor_parallel(const std::string& folder, const ProcessGroup& group, const LoadOptions& options = {}) {
  decltype(Model::from_pretrained(folder, options)) model{nullptr};
  together(group, [&] { model = Model::from_pretrained(folder, detail::as_stored(folder, options)); });
  auto parallel = tensor_parallelize(*model, group);
  together(group, [&] { detail::finish_loading(*model, folder, options); });
  return std::pair(std::move(model), std::move(parallel));
}

}  // namespace transformers
