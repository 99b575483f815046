#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <transformers/utils/nn/device.h>

namespace transformers {

void require_device(c10::Device device) {
  if (!device.is_cuda()) {
    return;
  }
  // Loading has to come before anything asks LibTorch about CUDA: it remembers a no.
  if (!c10::impl::hasDeviceGuardImpl(c10::kCUDA)) {
    const auto* library = dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL);
    TORCH_CHECK(library != nullptr, "device ", device, " needs LibTorch's CUDA library: ", dlerror());
  }
  const auto devices = c10::impl::getDeviceGuardImpl(c10::kCUDA)->deviceCount();
  TORCH_CHECK(devices > 0, "device ", device, " was asked for, but no usable CUDA device was found");
  TORCH_CHECK(!device.has_index() || device.index() < devices, "device ", device, " was asked for, this machine has ",
              static_cast<int>(devices), " CUDA devices");
}

}  // namespace transformers
