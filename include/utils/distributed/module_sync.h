#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <transformers/export.h>
#include <transformers/utils/distributed/process_group.h>
#include <transformers/utils/nn/state_dict.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

// The module half of torch/distributed/utils.py, torch 2.11. Deviations: docs/distributed.md.

/// Throws on every rank when the lists are empty or differ from rank 0's in number, dtype, shape or strides. The error
/// names the first rank that differs, the tensor (by `names`) and both sides. Mirrors
/// `_verify_param_shape_across_processes`.
void verify_param_shape_across_processes(const ProcessGroup& group, const std::vector<at::Tensor>& tensors,
                                         const std::vector<std::string>& names = {});

/// Gives every rank the values of rank `src`, in messages of `broadcast_bucket_size` bytes. The lists must agree, see
/// verify_param_shape_across_processes. Mirrors `_sync_params_and_buffers`.
void sync_params_and_buffers(const ProcessGroup& group, const std::vector<at::Tensor>& module_states,
                             int64_t broadcast_bucket_size, int64_t src);

/// Gives every rank the parameters and buffers of rank `src`, non-persistent buffers included, except those with the
/// given names. Mirrors `_sync_module_states`.
void sync_module_states(const torch::nn::Module& module, const ProcessGroup& group, int64_t broadcast_bucket_size,
                        int64_t src, const std::set<std::string>& params_and_buffers_to_ignore = {},
                        bool broadcast_buffers = true);

/// Renames every key that begins with `old_prefix`, in place and all at once. Throws when both prefixes are equal, and
/// when a new name exists already. Mirrors `_replace_by_prefix`.
void replace_by_prefix(StateDict& state_dict, const std::string& old_prefix, const std::string& new_prefix);

/// Those of the modules that are inside none of the others, in order. Mirrors `_get_root_modules`.
std::vector<std::shared_ptr<torch::nn::Module>> get_root_modules(
    const std::vector<std::shared_ptr<torch::nn::Module>>& modules);

}  // namespace transformers
