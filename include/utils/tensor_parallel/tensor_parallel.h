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

/// How a parameter is split: rank r holds `parts[r]` of a dimension with `full` entries. Several ranks may hold the
/// same part.
struct ParameterSlices {
  int64_t dim = 0;
  int64_t full = 0;
  std::vector<Part> parts{};
};

/// Describes a model that `tensor_parallelize` has split over a group of ranks.
struct TensorParallel {
  ProcessGroup group;
  /// By the names of the model's state dict. Parameters that are not listed are complete and equal on all ranks.
  std::map<std::string, ParameterSlices> slices{};
};

/// Splits a model over the ranks of a group, in place: query, key and value by heads, the MLP by channels, embeddings
/// and the head of a causal LM by tokens; norms and the heads of classifiers are not split and get the values of rank
/// 0. If there are fewer key/value heads than ranks, several ranks hold the same head, with the values of the first of
/// them. Slices are copied, so that a model with memory-mapped weights reads only the pages of its slices.
///
/// Afterwards all ranks call the model as before, with the same inputs: logits, losses and gradients are those of one
/// process; caches and attentions are those of the rank's heads. The parameters are new tensors: build the optimizer
/// afterwards, and clip gradients with the function below. Dropout and sampling need the same seed on all ranks; head
/// masks and masks that differ by head are not supported. A split model can no longer be resized, pruned or saved by
/// its own functions; to save it, see save_pretrained below.
///
/// Throws on all ranks, changing nothing, when the models differ in shape, when a layer has its own linear method
/// (adapted, quantised, packed, split already), when the number of ranks does not divide the number of query heads or
/// channels, neither divides nor is a multiple of the number of key/value heads, or exceeds the vocabulary size.
TensorParallel tensor_parallelize(PreTrainedModel& model, const ProcessGroup& group);

/// Scales the gradients of a split model so that their norm, over all ranks, is at most `max_norm`; returns the norm
/// before, fp32 []. A `max_norm` of 0 or less only measures. All ranks must call it. Mirrors
/// `torch.nn.utils.clip_grad_norm_`.
at::Tensor clip_grad_norm_(const PreTrainedModel& model, const TensorParallel& parallel, double max_norm);

/// The unsharded state dict, on the CPU of rank `dst`; empty on the others. All ranks must call it. One parameter at a
/// time is sent.
StateDict gather_state_dict(const PreTrainedModel& model, const TensorParallel& parallel, int64_t dst = 0);

/// `save_pretrained` of the unsharded model by rank 0 of the group; all ranks must call it. Returns when the folder is
/// written; throws on all ranks when rank 0 cannot write it.
void save_pretrained(const PreTrainedModel& model, const TensorParallel& parallel, const std::string& folder,
                     const SaveOptions& options = {});

namespace detail {
/// Options that load on the CPU in the stored dtype, if there is a single one, so that nothing is read before it is
/// used.
LoadOptions as_stored(const std::string& folder, const LoadOptions& options);
/// Moves the model to the dtype and device that `from_pretrained` would have chosen.
void finish_loading(PreTrainedModel& model, const std::string& folder, const LoadOptions& options);
}  // namespace detail

/// `Model::from_pretrained` followed by `tensor_parallelize`, in such a way that each rank reads and converts only its
/// slices. `Model` is a holder such as LlamaForCausalLM, or a class such as AutoModelForCausalLM. Returns the model and
/// its slices. Throws as both functions do, and on all ranks when one cannot read. A folder with several floating
/// dtypes is read completely.
template <typename Model>
auto load_tensor_parallel(const std::string& folder, const ProcessGroup& group, const LoadOptions& options = {}) {
  decltype(Model::from_pretrained(folder, options)) model{nullptr};
  together(group, [&] { model = Model::from_pretrained(folder, detail::as_stored(folder, options)); });
  auto parallel = tensor_parallelize(*model, group);
  together(group, [&] { detail::finish_loading(*model, folder, options); });
  return std::pair(std::move(model), std::move(parallel));
}

}  // namespace transformers
