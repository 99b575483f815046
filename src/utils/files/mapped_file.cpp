#include "utils/files/internal/mapped_file.h"

#include <ATen/ops/empty.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <sys/mman.h>
#include <transformers/utils/files/mapped_memory.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "utils/files/internal/regular_file.h"
#include "utils/text/printable.h"

namespace transformers {

/// A live mapping in a list that a signal handler may traverse at any moment: entries are reused, but not freed.
struct MappingEntry {
  std::atomic<bool> is_taken{true};
  std::atomic<uintptr_t> begin{0}, size{0};
  std::atomic<const char*> path{nullptr};
  MappingEntry* next = nullptr;
};

namespace {

std::atomic<MappingEntry*> mappings{nullptr};

MappingEntry* free_entry() {
  for (auto* entry = mappings.load(); entry != nullptr; entry = entry->next) {
    if (bool taken = false; entry->is_taken.compare_exchange_strong(taken, true)) {
      return entry;
    }
  }
  auto* created = new MappingEntry;
  created->next = mappings.load();
  while (!mappings.compare_exchange_weak(created->next, created)) {
  }
  return created;
}

uintptr_t address(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

c10::Storage make_storage(at::DataPtr data, size_t size) {
  return {c10::Storage::use_byte_size_t{}, size, std::move(data), /*allocator=*/nullptr, /*resizable=*/false};
}

c10::Storage copy_of(std::string_view part) {
  auto data = c10::GetCPUAllocator()->allocate(part.size());
  std::memcpy(data.get(), part.data(), part.size());
  return make_storage(std::move(data), part.size());
}

}  // namespace

const char* mapped_file_at(const void* pointer) noexcept {
  for (const auto* entry = mappings.load(); entry != nullptr; entry = entry->next) {
    const auto begin = entry->begin.load();
    if (begin <= address(pointer) && address(pointer) - begin < entry->size.load()) {
      return entry->path.load();
    }
  }
  return nullptr;
}

MappedFile::MappedFile(std::string path) : path_(std::move(path)), shown_path_(printable_line(path_)) {
  const RegularFile file(path_);
  size_ = file.size();
  if (size_ == 0) {
    return;
  }
  // NORESERVE: a private writable mapping would otherwise have to fit in memory together with swap.
  void* begin =
      ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file.descriptor(), /*offset=*/0);
  TORCH_CHECK(begin != MAP_FAILED, printable(path_), ": cannot be mapped into memory: ", std::strerror(errno));
  begin_ = static_cast<char*>(begin);
  if (const auto now = file.size(); now != size_) {
    ::munmap(begin_, size_);
    TORCH_CHECK(false, printable(path_), ": changed from ", size_, " to ", now, " bytes while it was opened");
  }
  entry_ = free_entry();
  entry_->path = shown_path_.c_str();
  entry_->begin = address(begin_);
  entry_->size = size_;
}

MappedFile::~MappedFile() {
  if (begin_ != nullptr) {
    entry_->size = 0;
    entry_->is_taken = false;
    ::munmap(begin_, size_);
  }
}

void MappedFile::drop_pages(std::string_view part) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (address(part.data()) + page - 1) / page * page;
  const auto end = (address(part.data()) + part.size()) / page * page;
  if (begin < end) {
    // This is only advice: if the system cannot follow it, the pages remain and nothing is wrong.
    ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  }
}

c10::Storage storage_of(const std::shared_ptr<const MappedFile>& file, std::string_view part, size_t alignment) {
  if (!part.empty() && address(part.data()) % alignment != 0) {
    return copy_of(part);
  }
  using Owner = std::shared_ptr<const MappedFile>;
  auto owner = std::make_unique<Owner>(file);
  at::DataPtr data(
      const_cast<char*>(part.data()), owner.release(), [](void* o) { delete static_cast<Owner*>(o); }, at::kCPU);
  return make_storage(std::move(data), part.size());
}

at::Tensor tensor_over(const c10::Storage& storage, c10::ScalarType dtype, int64_t offset, at::IntArrayRef shape,
                       at::IntArrayRef strides) {
  return at::empty({0}, dtype).set_(storage, offset, shape, strides);
}

void check_bools(std::string_view bytes, const std::string& path, const std::string& name) {
  const auto* wrong = std::ranges::find_if(bytes, [](char value) { return value != 0 && value != 1; });
  TORCH_CHECK(wrong == bytes.end(), printable(path), ": tensor ", printable(name), ": a bool must be 0 or 1, found ",
              static_cast<int>(static_cast<uint8_t>(*wrong)), " at byte ", wrong - bytes.begin());
}

}  // namespace transformers
