#include <c10/core/DeviceType.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <transformers/utils/nn/device.h>

#include <filesystem>
#include <string>

namespace transformers {

namespace {

/// The library in the folder of the LibTorch that this process uses; an installed library has no path to it.
std::string cuda_library() {
  const std::string name = "libtorch_cuda.so";
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&c10::DeviceTypeName), &info) == 0) {
    return name;
  }
  const auto beside = std::filesystem::path(info.dli_fname).parent_path() / name;
  std::error_code ignored;
  return std::filesystem::exists(beside, ignored) ? beside.string() : name;
}

/// CUDA has to be loaded before anything asks LibTorch about it, because LibTorch remembers a negative answer.
bool load_cuda() {
  return c10::impl::hasDeviceGuardImpl(c10::kCUDA) || dlopen(cuda_library().c_str(), RTLD_NOW | RTLD_GLOBAL) != nullptr;
}

}  // namespace

int64_t cuda_device_count() { return load_cuda() ? c10::impl::getDeviceGuardImpl(c10::kCUDA)->deviceCount() : 0; }

void require_device(c10::Device device) {
  if (!device.is_cuda()) {
    return;
  }
  TORCH_CHECK(load_cuda(), "device ", device, " needs LibTorch's CUDA library: ", dlerror());
  const auto devices = cuda_device_count();
  TORCH_CHECK(devices > 0, "device ", device, " was asked for, but no usable CUDA device was found");
  TORCH_CHECK(!device.has_index() || device.index() < devices, "device ", device, " was asked for, this machine has ",
              devices, " CUDA devices");
}

}  // namespace transformers
