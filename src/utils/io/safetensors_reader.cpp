#include <c10/util/Exception.h>
#include <transformers/utils/io/safetensors.h>

#include <algorithm>

#include "utils/files/internal/mapped_file.h"
#include "utils/io/internal/safetensors_header.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

std::vector<int64_t> dense_strides(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t d = shape.size(); d-- > 1;) {
    strides[d - 1] = strides[d] * std::max<int64_t>(shape[d], 1);
  }
  return strides;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(std::make_shared<const MappedFile>(path)) {
  auto header = parse_safetensors(file_->bytes(), path);
  metadata_ = std::move(header.metadata);
  tensors_.reserve(header.entries.size());
  for (auto& entry : header.entries) {
    positions_.emplace(entry.info.name, tensors_.size());
    begins_.push_back(entry.begin);
    tensors_.push_back(std::move(entry.info));
  }
}

const std::string& SafetensorsFile::path() const { return file_->path(); }

int64_t SafetensorsFile::bytes() const {
  return begins_.empty() ? 0 : static_cast<int64_t>(file_->bytes().size() - begins_.front());
}

size_t SafetensorsFile::position(const std::string& name) const {
  const auto found = positions_.find(name);
  TORCH_CHECK(found != positions_.end(), printable(path()), ": holds no tensor ", printable(name));
  return found->second;
}

std::string_view SafetensorsFile::data(size_t position) const {
  return file_->bytes().substr(begins_[position], static_cast<size_t>(tensors_[position].bytes));
}

at::Tensor SafetensorsFile::tensor(const std::string& name) const {
  const auto at = position(name);
  const auto& info = tensors_[at];
  const auto bytes = data(at);
  if (info.dtype == c10::ScalarType::Bool) {
    check_bools(bytes, path(), name);
  }
  return tensor_over(storage_of(file_, bytes, c10::elementSize(info.dtype)), info.dtype, /*offset=*/0, info.shape,
                     dense_strides(info.shape));
}

void SafetensorsFile::drop_pages(const std::string& name) const { MappedFile::drop_pages(data(position(name))); }

}  // namespace transformers
