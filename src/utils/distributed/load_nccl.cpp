#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <transformers/utils/nn/device.h>

#include <filesystem>
#include <limits>

#include "utils/distributed/backends.h"
#include "utils/distributed/environment.h"

namespace transformers {
namespace {

using MakeBackend = void (*)(const BackendPlan&, c10::Device, c10::intrusive_ptr<c10d::Backend>&);

/// The plug-in is in the folder of this library, both in the build tree and when installed.
std::string plugin_path() {
  Dl_info info{};
  dladdr(reinterpret_cast<const void*>(&make_nccl_backend), &info);
  return (std::filesystem::path(info.dli_fname).parent_path() / "libtransformers_nccl.so").string();
}

MakeBackend loaded_plugin() {
  auto* library = dlopen(plugin_path().c_str(), RTLD_NOW | RTLD_LOCAL);
  TORCH_CHECK(library != nullptr,
              "the backend nccl needs libtransformers_nccl.so, which is built where the headers of CUDA and NCCL are: ",
              dlerror());
  auto* function = dlsym(library, "transformers_make_nccl_backend");
  TORCH_CHECK(function != nullptr, "libtransformers_nccl.so is not of this version of the library: ", dlerror());
  return reinterpret_cast<MakeBackend>(function);
}

}  // namespace

c10::Device nccl_device(int64_t rank, std::optional<c10::Device> wanted) {
  TORCH_CHECK(!wanted || (wanted->is_cuda() && wanted->has_index()),
              "the backend nccl needs a CUDA device with its index, got ", *wanted);
  require_device(wanted.value_or(c10::kCUDA));
  if (wanted) {
    return *wanted;
  }
  const auto devices = c10::impl::getDeviceGuardImpl(c10::kCUDA)->deviceCount();
  const bool is_told = environment_variable("LOCAL_RANK").has_value();
  const auto place = is_told ? required_integer("LOCAL_RANK", 0, std::numeric_limits<int32_t>::max()) : rank % devices;
  TORCH_CHECK(place < devices, "the backend nccl takes one CUDA device a rank: LOCAL_RANK is ", place,
              ", this machine has ", static_cast<int64_t>(devices), " CUDA devices");
  return {c10::kCUDA, static_cast<c10::DeviceIndex>(place)};
}

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const BackendPlan& plan, c10::Device device) {
  static const auto make = loaded_plugin();
  c10::intrusive_ptr<c10d::Backend> backend;
  make(plan, device, backend);
  return backend;
}

}  // namespace transformers
