#include "utils/distributed/side_stream.h"

#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <map>
#include <mutex>
#include <utility>

namespace transformers {
namespace {

c10::Device with_index(c10::Device device, const c10::impl::VirtualGuardImpl& guard) {
  return device.has_index() ? device : guard.getDevice();
}

c10::Stream background_stream(c10::Device device, const c10::impl::VirtualGuardImpl& guard) {
  static std::mutex mutex;
  static std::map<std::pair<c10::DeviceType, c10::DeviceIndex>, c10::Stream> streams;
  const std::lock_guard lock(mutex);
  const auto key = std::pair(device.type(), device.index());
  auto found = streams.find(key);
  if (found == streams.end()) {
    found = streams.emplace(key, guard.getStreamFromGlobalPool(device)).first;
  }
  return found->second;
}

}  // namespace

at::Tensor copied_on_side_stream(const at::Tensor& tensor, c10::Device device) {
  const c10::impl::VirtualGuardImpl guard(device.type());
  const auto target = with_index(device, guard);
  const auto current = guard.getStream(target);
  const auto side = background_stream(target, guard);
  at::Tensor copy;
  {
    const c10::StreamGuard scope(side);
    copy = tensor.to(target);
  }
  c10::Event copied(device.type());
  copied.record(side);
  copied.block(current);
  // The side stream allocated this memory, which may be reused there only after the current stream is done with it.
  copy.record_stream(current);
  return copy;
}

}  // namespace transformers
