// Verification and broadcast of a module's parameters and buffers, after the module half of torch/distributed/utils.py,
// torch 2.11. Tensors are compared as text lines of dtype, shape and strides, so that an error can show both sides.
#include <c10/util/Exception.h>
#include <transformers/utils/distributed/module_sync.h>
#include <transformers/utils/nn/module.h>

#include <sstream>
#include <unordered_set>

#include "utils/distributed/internal/agreement.h"

namespace transformers {
namespace {

/// "Float [2, 3] strides [3, 1]"; the device may differ.
std::string description(const at::Tensor& tensor) {
  if (!tensor.defined()) {
    return "undefined";
  }
  std::ostringstream text;
  text << tensor.scalar_type() << ' ' << tensor.sizes();
  if (tensor.layout() == at::kStrided) {
    text << " strides " << tensor.strides();
  } else {
    text << ' ' << tensor.layout();
  }
  return text.str();
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(line);
  }
  return lines;
}

/// How this rank's list differs from that of rank 0; empty if it does not.
std::string complaint(int64_t rank, const std::vector<std::string>& own, const std::vector<std::string>& first,
                      const std::vector<std::string>& names) {
  const auto here = " on rank " + std::to_string(rank);
  if (own.empty() && first.empty()) {
    return "there are no tensors to verify" + here;
  }
  if (own.size() != first.size()) {
    return "there are " + std::to_string(own.size()) + " tensors" + here + ", " + std::to_string(first.size()) +
           " on rank 0";
  }
  for (size_t i = 0; i < own.size(); ++i) {
    const auto name = "tensor " + std::to_string(i) + (i < names.size() ? " (" + names[i] + ")" : "");
    if (own[i] == "undefined" || own[i] != first[i]) {
      return c10::str(name, " is ", own[i], here, ", ", first[i], " on rank 0");
    }
  }
  return "";
}

/// Lists each tensor once, even if it has several names. Tensors without memory have no values to send: these are
/// weights of quantised layers, whose values are frozen and read from the same file on every rank.
class States {
 public:
  explicit States(const std::set<std::string>& ignored) : ignored_(ignored) {}

  void add(const std::string& name, const at::Tensor& tensor) {
    if (!ignored_.contains(name) && tensor.defined() && !tensor.is_meta() &&
        seen_.insert(tensor.unsafeGetTensorImpl()).second) {
      tensors.push_back(tensor.detach());
    }
  }

  std::vector<at::Tensor> tensors;

 private:
  const std::set<std::string>& ignored_;
  std::unordered_set<const void*> seen_;
};

void add_non_persistent_buffers(const torch::nn::Module& module, States& states) {
  for (const auto& item : module.named_modules()) {
    if (const auto* own = dynamic_cast<const Module*>(item.value().get())) {
      for (const auto& [name, buffer] : own->non_persistent_buffers()) {
        states.add(item.key().empty() ? name : item.key() + "." + name, buffer);
      }
    }
  }
}

}  // namespace

void verify_param_shape_across_processes(const ProcessGroup& group, const std::vector<at::Tensor>& tensors,
                                         const std::vector<std::string>& names) {
  std::string text;
  for (const auto& tensor : tensors) {
    text += description(tensor) + '\n';
  }
  const auto first = broadcast_text(group, text, /*src=*/0);
  agree(group, complaint(group.rank(), lines_of(text), lines_of(first), names));
}

void sync_params_and_buffers(const ProcessGroup& group, const std::vector<at::Tensor>& module_states,
                             int64_t broadcast_bucket_size, int64_t src) {
  if (!module_states.empty()) {
    group.broadcast_coalesced(module_states, broadcast_bucket_size, src);
  }
}

void sync_module_states(const torch::nn::Module& module, const ProcessGroup& group, int64_t broadcast_bucket_size,
                        int64_t src, const std::set<std::string>& params_and_buffers_to_ignore,
                        bool broadcast_buffers) {
  States states(params_and_buffers_to_ignore);
  for (const auto& parameter : module.named_parameters()) {
    states.add(parameter.key(), parameter.value());
  }
  if (broadcast_buffers) {
    for (const auto& buffer : module.named_buffers()) {
      states.add(buffer.key(), buffer.value());
    }
    add_non_persistent_buffers(module, states);
  }
  sync_params_and_buffers(group, states.tensors, broadcast_bucket_size, src);
}

void replace_by_prefix(StateDict& state_dict, const std::string& old_prefix, const std::string& new_prefix) {
  TORCH_CHECK(old_prefix != new_prefix, "the old and the new prefix must differ, got '", old_prefix, "' twice");
  StateDict renamed;
  for (const auto& item : state_dict) {
    const bool matches = item.key().starts_with(old_prefix);
    const auto name = matches ? new_prefix + item.key().substr(old_prefix.size()) : item.key();
    TORCH_CHECK(!renamed.contains(name), "replacing the prefix '", old_prefix, "' by '", new_prefix,
                "' gives the name '", name, "' twice");
    renamed.insert(name, item.value());
  }
  state_dict = std::move(renamed);
}

std::vector<std::shared_ptr<torch::nn::Module>> get_root_modules(
    const std::vector<std::shared_ptr<torch::nn::Module>>& modules) {
  std::unordered_set<const torch::nn::Module*> inside;
  for (const auto& module : modules) {
    for (const auto& descendant : module->modules(/*include_self=*/false)) {
      inside.insert(descendant.get());
    }
  }
  std::vector<std::shared_ptr<torch::nn::Module>> roots;
  for (const auto& module : modules) {
    if (!inside.contains(module.get())) {
      roots.push_back(module);
    }
  }
  return roots;
}

}  // namespace transformers
