#include "utils/distributed/internal/agreement.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <transformers/utils/distributed/together.h>

#include <algorithm>
#include <cstring>

namespace transformers {
namespace {

/// One size for each rank.
std::vector<int64_t> exchange_sizes(const ProcessGroup& group, int64_t size) {
  const auto own = at::empty({1}, at::kLong).fill_(size).to(group.device());
  const auto all = at::empty({group.size()}, own.options());
  group.all_gather_into_tensor(all, own).wait();
  const auto on_cpu = all.cpu();
  return {on_cpu.const_data_ptr<int64_t>(), on_cpu.const_data_ptr<int64_t>() + group.size()};
}

at::Tensor to_bytes(const std::string& text, int64_t length) {
  const auto bytes = at::zeros({length}, at::kByte);
  std::memcpy(bytes.mutable_data_ptr(), text.data(), text.size());
  return bytes;
}

const char* characters_of(const at::Tensor& bytes) {
  return reinterpret_cast<const char*>(bytes.const_data_ptr<uint8_t>());
}

}  // namespace

std::vector<std::string> exchange_texts(const ProcessGroup& group, const std::string& text) {
  const auto sizes = exchange_sizes(group, static_cast<int64_t>(text.size()));
  const auto longest = *std::max_element(sizes.begin(), sizes.end());
  if (longest == 0) {
    return std::vector<std::string>(sizes.size());
  }
  const auto own = to_bytes(text, longest).to(group.device());
  const auto all = at::empty({group.size() * longest}, own.options());
  group.all_gather_into_tensor(all, own).wait();
  const auto on_cpu = all.cpu();
  std::vector<std::string> texts;
  for (size_t rank = 0; rank < sizes.size(); ++rank) {
    texts.emplace_back(characters_of(on_cpu) + rank * longest, sizes[rank]);
  }
  return texts;
}

std::string broadcast_text(const ProcessGroup& group, const std::string& text, int64_t src) {
  const auto length = at::empty({1}, at::kLong).fill_(static_cast<int64_t>(text.size())).to(group.device());
  group.broadcast(length, src).wait();
  const auto size = length.cpu().const_data_ptr<int64_t>()[0];
  if (size == 0) {
    return "";
  }
  const auto bytes = (group.rank() == src ? to_bytes(text, size) : at::zeros({size}, at::kByte)).to(group.device());
  group.broadcast(bytes, src).wait();
  const auto on_cpu = bytes.cpu();
  return {characters_of(on_cpu), static_cast<size_t>(size)};
}

void agree(const ProcessGroup& group, const std::string& complaint) {
  for (const auto& found : exchange_texts(group, complaint)) {
    TORCH_CHECK(found.empty(), "rank ", group.rank(), " of ", group.size(), ": ", found);
  }
}

void together(const ProcessGroup& group, const std::function<void()>& step) {
  std::string complaint;
  try {
    step();
  } catch (const c10::Error& error) {
    complaint = error.what_without_backtrace();
  } catch (const std::exception& error) {
    complaint = *error.what() == '\0' ? "an exception without a text" : error.what();
  }
  agree(group, complaint);
}

}  // namespace transformers
