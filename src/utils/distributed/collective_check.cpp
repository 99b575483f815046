#include "utils/distributed/internal/collective_check.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <cstring>
#include <sstream>

#include "utils/distributed/internal/c10d_handles.h"
#include "utils/distributed/internal/c10d_versions.h"
#include "utils/distributed/internal/collective_error.h"

namespace transformers {
namespace {

constexpr size_t kTextBytes = 256;

uint64_t fnv1a(const std::string& text) {
  uint64_t hash = 14695981039346656037ULL;
  for (const unsigned char character : text) {
    hash = (hash ^ character) * 1099511628211ULL;
  }
  return hash;
}

/// Shortens a text; texts that differ still differ when they are shortened.
std::string cut(const std::string& text) {
  if (text.size() < kTextBytes) {
    return text;
  }
  const auto mark = "... #" + std::to_string(fnv1a(text));
  return text.substr(0, kTextBytes - 1 - mark.size()) + mark;
}

at::Tensor gathered(const ProcessGroup& group, const at::Tensor& own) {
  const auto all = at::empty({group.size() * own.numel()}, own.options());
  all_gather_single(*group.handle().group, all, own)->wait();
  return all.cpu();
}

}  // namespace

void check_same_operation(const ProcessGroup& group, const std::string& operation) {
  if (!group.handle().check_collectives || group.size() == 1) {
    return;
  }
  const auto text = cut(operation);
  const auto own = at::zeros({static_cast<int64_t>(kTextBytes)}, at::kByte);
  std::memcpy(own.mutable_data_ptr(), text.data(), text.size());
  const auto all =
      naming_rank(group.rank(), group.size(), operation, [&] { return gathered(group, own.to(group.device())); });
  for (int64_t other = 0; other < group.size(); ++other) {
    const auto* bytes = reinterpret_cast<const char*>(all.const_data_ptr<uint8_t>()) + other * kTextBytes;
    TORCH_CHECK(text == bytes, "rank ", group.rank(), " of ", group.size(), ": ranks disagree: this one runs ", text,
                ", rank ", other, " runs ", bytes);
  }
}

std::string shape_text(const at::Tensor& tensor) {
  std::ostringstream text;
  text << tensor.scalar_type() << ' ' << tensor.sizes();
  return text.str();
}

int tag_with_size(const at::Tensor& tensor, int tag) {
  constexpr int kTags = 1 << 16;
  TORCH_CHECK(tag >= 0 && tag < kTags, "a tag must be in [0, ", kTags, "), got ", tag);
  const auto size = fnv1a(std::to_string(tensor.nbytes())) & 0x7FFF;
  return static_cast<int>(size << 16) | tag;
}

}  // namespace transformers
