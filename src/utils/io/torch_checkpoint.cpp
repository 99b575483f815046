#include <c10/util/Exception.h>
#include <transformers/utils/io/torch_checkpoint.h>

#include <map>
#include <mutex>

#include "utils/files/internal/mapped_file.h"
#include "utils/io/torch_contents.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

// The alignment is enough for every dtype; torch itself aligns to 64 bytes.
constexpr size_t kStorageAlignment = 16;

}  // namespace

struct TorchCheckpointFile::Contents {
  explicit Contents(const std::string& path) : file(std::make_shared<const MappedFile>(path)) {}

  /// One storage for all tensors of a record, which lives as long as one of them.
  c10::Storage storage(std::string_view record) {
    const std::scoped_lock guard(mutex);
    auto& known = storages[record.data()];
    if (auto alive = known ? known->lock() : nullptr) {
      return {std::move(alive)};
    }
    auto created = storage_of(file, record, kStorageAlignment);
    known = created.getWeakStorageImpl();
    return created;
  }

  std::shared_ptr<const MappedFile> file;
  std::vector<TorchContents::View> views;  // in the order of tensors_
  std::mutex mutex;
  std::map<const char*, std::optional<c10::weak_intrusive_ptr<c10::StorageImpl>>> storages;
};

TorchCheckpointFile::TorchCheckpointFile(const std::string& path) : contents_(std::make_unique<Contents>(path)) {
  auto parsed = parse_torch_checkpoint(contents_->file->bytes(), path);
  contents_->views = std::move(parsed.views);
  tensors_ = std::move(parsed.tensors);
  skipped_ = std::move(parsed.skipped);
  for (size_t i = 0; i < tensors_.size(); ++i) {
    positions_.emplace(tensors_[i].name, i);
  }
}

TorchCheckpointFile::~TorchCheckpointFile() = default;

const std::string& TorchCheckpointFile::path() const { return contents_->file->path(); }

int64_t TorchCheckpointFile::bytes() const {
  std::map<const char*, size_t> sizes;
  for (const auto& view : contents_->views) {
    sizes[view.record.data()] = view.record.size();
  }
  int64_t total = 0;
  for (const auto& entry : sizes) {
    total += static_cast<int64_t>(entry.second);
  }
  return total;
}

size_t TorchCheckpointFile::position(const std::string& name) const {
  const auto found = positions_.find(name);
  TORCH_CHECK(found != positions_.end(), printable(path()), ": holds no tensor ", printable(name));
  return found->second;
}

at::Tensor TorchCheckpointFile::tensor(const std::string& name) const {
  const auto at = position(name);
  const auto& info = tensors_[at];
  const auto& view = contents_->views[at];
  if (info.dtype == c10::ScalarType::Bool) {
    check_bools(view.record, path(), name);
  }
  return tensor_over(contents_->storage(view.record), info.dtype, view.offset, info.shape, view.strides);
}

void TorchCheckpointFile::drop_pages(const std::string& name) const {
  MappedFile::drop_pages(contents_->views[position(name)].record);
}

}  // namespace transformers
