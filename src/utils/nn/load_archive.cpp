#include <ATen/core/grad_mode.h>
#include <torch/serialize/archive.h>
#include <transformers/utils/nn/module.h>

namespace transformers {
namespace {

void read_into(torch::serialize::InputArchive& archive, const std::string& name, const std::string& key,
               at::Tensor tensor, bool is_buffer) {
  at::Tensor saved;
  TORCH_CHECK(archive.try_read(key, saved, is_buffer), "the archive lacks the tensor ", name);
  TORCH_CHECK(saved.sizes() == tensor.sizes(), "the tensor ", name, " must have the shape ", tensor.sizes(),
              ", the archive has ", saved.sizes());
  TORCH_CHECK(!tensor.is_meta(), "the tensor ", name, " has no memory to load into");
  tensor.copy_(saved);
}

/// Works for a module of any class. LibTorch's own `load` replaces the data of the tensors, possibly with another
/// dtype, and loads a tensor that has two names twice.
void load_into(torch::nn::Module& module, torch::serialize::InputArchive& archive, const std::string& prefix) {
  for (const auto& entry : module.named_parameters(/*recurse=*/false)) {
    read_into(archive, prefix + entry.key(), entry.key(), entry.value(), /*is_buffer=*/false);
  }
  for (const auto& entry : module.named_buffers(/*recurse=*/false)) {
    read_into(archive, prefix + entry.key(), entry.key(), entry.value(), /*is_buffer=*/true);
  }
  for (const auto& child : module.named_children()) {
    torch::serialize::InputArchive part;
    if (child.value()->is_serializable()) {
      TORCH_CHECK(archive.try_read(child.key(), part), "the archive lacks the module ", prefix, child.key());
      load_into(*child.value(), part, prefix + child.key() + ".");
    }
  }
}

}  // namespace

void Module::load(torch::serialize::InputArchive& archive) {
  const at::NoGradGuard no_grad;
  load_into(*this, archive, "");
}

}  // namespace transformers
