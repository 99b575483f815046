#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Storage.h>

#include <memory>
#include <string>
#include <string_view>

namespace transformers {

/// A memory-mapped regular file. Pages are read on access; writing to a page makes a private copy of it, so that loaded
/// weights can be trained in place and the file never changes.
class MappedFile {
 public:
  explicit MappedFile(std::string path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::string_view bytes() const { return {begin_, size_}; }

  /// Frees the memory of all pages that are completely within `part`, a piece of a mapped file.
  static void drop_pages(std::string_view part);

 private:
  std::string path_, shown_path_;
  char* begin_ = nullptr;
  size_t size_ = 0;
  struct MappingEntry* entry_ = nullptr;
};

/// The bytes of `part`, a piece of file->bytes(), as storage that keeps the mapping alive. They are copied when they do
/// not begin at a multiple of `alignment`.
c10::Storage storage_of(const std::shared_ptr<const MappedFile>& file, std::string_view part, size_t alignment);

/// A tensor over storage; offset and strides count elements.
at::Tensor tensor_over(const c10::Storage& storage, c10::ScalarType dtype, int64_t offset, at::IntArrayRef shape,
                       at::IntArrayRef strides);

/// Throws when a byte of a bool tensor is neither 0 nor 1, as reading it as a bool would be undefined behaviour.
void check_bools(std::string_view bytes, const std::string& path, const std::string& name);

}  // namespace transformers
