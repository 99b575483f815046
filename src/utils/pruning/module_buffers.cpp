#include "utils/pruning/module_buffers.h"

namespace transformers {

void erase_buffer(torch::nn::Module& module, const std::string& name) {
  auto& buffers = torch::nn::Cloneable<BufferAccess>::buffers(module);
  if (buffers.contains(name)) {
    buffers.erase(name);
  }
}

}  // namespace transformers
