#include "utils/nn/copy_buffers.h"

#include "utils/nn/internal/module_buffers.h"

namespace transformers {

void copy_buffers(const torch::nn::Module& module, torch::nn::Module& copy, TensorCopies& copies) {
  const auto originals = module.named_buffers(/*recurse=*/false);
  auto& buffers = torch::nn::Cloneable<BufferAccess>::buffers(copy);
  buffers.clear();
  for (const auto& entry : originals) {
    buffers.insert(entry.key(), copies.of(entry.value()));
  }
}

}  // namespace transformers
