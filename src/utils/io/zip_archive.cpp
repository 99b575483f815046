// Follows the zip specification, PKWARE's APPNOTE 6.3, as far as torch.save uses it.
#include "utils/io/zip_archive.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "utils/text/printable.h"

namespace transformers {
namespace {

constexpr uint32_t kLocalMagic = 0x04034b50, kEntryMagic = 0x02014b50, kEndMagic = 0x06054b50;
constexpr uint32_t kEnd64Magic = 0x06064b50, kLocator64Magic = 0x07064b50;
constexpr uint16_t kIn64Bits16 = 0xFFFF, kZip64Extra = 1;
constexpr uint32_t kIn64Bits32 = 0xFFFFFFFF;
constexpr size_t kLocator64Size = 20;
constexpr uint16_t kEncrypted = 1 | 1 << 6 | 1 << 13, kSizesFollow = 1 << 3;

/// Reads little-endian numbers one after the other.
class ByteReader {
 public:
  ByteReader(std::string_view bytes, const std::string& source) : bytes_(bytes), source_(source) {}

  template <class Number>
  Number number() {
    Number value{};
    std::memcpy(&value, take(sizeof(Number)).data(), sizeof(Number));
    return value;
  }

  std::string_view take(size_t size) {
    TORCH_CHECK(size <= bytes_.size(), source_, ": the zip directory is damaged: it ends within a record");
    const auto part = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return part;
  }

  bool empty() const { return bytes_.empty(); }

 private:
  std::string_view bytes_;
  const std::string& source_;
};

struct Directory {
  uint64_t entries, size, offset;
};

struct Sizes {
  uint64_t plain, packed, offset;
};

struct Entry {
  std::string name;
  uint16_t flags, method;
  Sizes sizes;
};

/// A 32-bit field with all bits set has its value in the zip64 extra field; the values are in this order.
void read_zip64(std::string_view extra, const std::string& source, std::initializer_list<uint64_t*> fields) {
  ByteReader reader(extra, source);
  while (!reader.empty()) {
    const auto kind = reader.number<uint16_t>();
    ByteReader content(reader.take(reader.number<uint16_t>()), source);
    if (kind != kZip64Extra) {
      continue;
    }
    for (auto* field : fields) {
      if (*field == kIn64Bits32) {
        *field = content.number<uint64_t>();
      }
    }
    return;
  }
}

class ZipReader {
 public:
  ZipReader(std::string_view file, const std::string& source) : file_(file), source_(source) {}

  std::map<std::string, std::string_view> records(const std::function<void(const std::string&)>& check_name) const {
    const auto directory = find_directory();
    const auto entries = read_entries(directory);
    for (const auto& entry : entries) {
      check_name(entry.name);
    }
    std::map<std::string, std::string_view> records;
    for (const auto& entry : entries) {
      check(!records.contains(entry.name), "two records are called " + printable(entry.name));
      records.emplace(entry.name, record(entry, directory.offset));
    }
    check_apart(records);
    return records;
  }

 private:
  void check(bool holds, const std::string& fault) const {
    TORCH_CHECK(holds, source_, ": the zip archive is damaged: ", fault);
  }

  std::string_view part(uint64_t begin, uint64_t size) const {
    check(begin <= file_.size() && size <= file_.size() - begin, "a part of it lies past the end of the file");
    return file_.substr(begin, size);
  }

  /// Position of the end record; the archive comment after it reaches exactly to the end of the file.
  size_t find_end() const {
    constexpr size_t kSize = 22, kMaxComment = 0xFFFF;
    for (size_t comment = 0; comment <= kMaxComment && comment + kSize <= file_.size(); ++comment) {
      const size_t begin = file_.size() - comment - kSize;
      ByteReader reader(file_.substr(begin), source_);
      if (reader.number<uint32_t>() == kEndMagic) {
        reader.take(16);
        if (reader.number<uint16_t>() == comment) {
          return begin;
        }
      }
    }
    check(false, "it has no directory, perhaps because the file is cut off");
    return 0;
  }

  Directory find_directory() const {
    const size_t end = find_end();
    ByteReader reader(file_.substr(end + 4), source_);
    const auto disk = reader.number<uint16_t>();
    const auto directory_disk = reader.number<uint16_t>();
    const auto entries_here = reader.number<uint16_t>();
    Directory directory{.entries = reader.number<uint16_t>(), .size = reader.number<uint32_t>(), .offset = 0};
    directory.offset = reader.number<uint32_t>();
    check(disk == 0 && directory_disk == 0 && entries_here == directory.entries, "it spans several files");
    if (has_locator64(end)) {
      return find_directory64(end, directory);
    }
    check(directory.offset + directory.size == end, "the directory is not where the end record says");
    return directory;
  }

  bool has_locator64(size_t end) const {
    return end >= kLocator64Size &&
           ByteReader(file_.substr(end - kLocator64Size), source_).number<uint32_t>() == kLocator64Magic;
  }

  /// torch.save writes the 64-bit records always; full or equal fields of the 32-bit record agree with them.
  Directory find_directory64(size_t end, const Directory& narrow) const {
    constexpr size_t kEndSize = 56;
    ByteReader locator(file_.substr(end - kLocator64Size + 8), source_);
    const auto end64 = locator.number<uint64_t>();
    ByteReader reader(part(end64, kEndSize), source_);
    check(reader.number<uint32_t>() == kEnd64Magic, "the zip64 end record is missing");
    check(end64 + kEndSize + kLocator64Size == end && reader.number<uint64_t>() == kEndSize - 12,
          "the zip64 end record has the wrong size");
    reader.take(4);
    check(reader.number<uint64_t>() == 0, "it spans several files");
    const auto entries_here = reader.number<uint64_t>();
    Directory directory{.entries = reader.number<uint64_t>(), .size = reader.number<uint64_t>(), .offset = 0};
    directory.offset = reader.number<uint64_t>();
    check(entries_here == directory.entries, "it spans several files");
    check(part(directory.offset, directory.size).size() == end64 - directory.offset,
          "the directory is not where the end record says");
    check((narrow.entries == kIn64Bits16 || narrow.entries == directory.entries) &&
              (narrow.size == kIn64Bits32 || narrow.size == directory.size) &&
              (narrow.offset == kIn64Bits32 || narrow.offset == directory.offset),
          "its two end records disagree");
    return directory;
  }

  std::vector<Entry> read_entries(const Directory& directory) const {
    ByteReader reader(file_.substr(directory.offset, directory.size), source_);
    std::vector<Entry> entries;
    for (uint64_t i = 0; i < directory.entries; ++i) {
      entries.push_back(read_entry(reader));
    }
    check(reader.empty(), "the directory holds more than it counts");
    return entries;
  }

  Entry read_entry(ByteReader& reader) const {
    check(reader.number<uint32_t>() == kEntryMagic, "a directory entry is missing");
    Entry entry{};
    reader.take(4);  // versions
    entry.flags = reader.number<uint16_t>();
    entry.method = reader.number<uint16_t>();
    reader.take(8);  // time, date, checksum
    entry.sizes.packed = reader.number<uint32_t>();
    entry.sizes.plain = reader.number<uint32_t>();
    const auto name_size = reader.number<uint16_t>();
    const auto extra_size = reader.number<uint16_t>();
    const auto comment_size = reader.number<uint16_t>();
    reader.take(8);  // disk, attributes
    entry.sizes.offset = reader.number<uint32_t>();
    entry.name = reader.take(name_size);
    read_zip64(reader.take(extra_size), source_, {&entry.sizes.plain, &entry.sizes.packed, &entry.sizes.offset});
    reader.take(comment_size);
    return entry;
  }

  /// The bytes of a record, after the header before them was compared with the directory.
  std::string_view record(const Entry& entry, uint64_t directory_begin) const {
    constexpr size_t kSize = 30;
    const auto name = printable(entry.name);
    TORCH_CHECK((entry.flags & kEncrypted) == 0, source_, ": the zip record ", name, " is encrypted");
    TORCH_CHECK(entry.method == 0, source_, ": the zip record ", name,
                " is compressed; torch.save stores records as they are");
    check(entry.sizes.plain == entry.sizes.packed, "record " + name + " is stored but has two sizes");
    ByteReader reader(part(entry.sizes.offset, kSize), source_);
    check(reader.number<uint32_t>() == kLocalMagic, "record " + name + " is not where the directory says");
    reader.take(2);  // version
    const auto flags = reader.number<uint16_t>();
    const auto method = reader.number<uint16_t>();
    reader.take(8);  // time, date, checksum
    Sizes local{};
    local.packed = reader.number<uint32_t>();
    local.plain = reader.number<uint32_t>();
    const auto name_size = reader.number<uint16_t>();
    const auto extra_size = reader.number<uint16_t>();
    read_zip64(part(entry.sizes.offset + kSize + name_size, extra_size), source_, {&local.plain, &local.packed});

    const bool sizes_follow = (flags & kSizesFollow) != 0 && local.plain == 0 && local.packed == 0;
    const bool same_sizes = local.plain == entry.sizes.plain && local.packed == entry.sizes.packed;
    check(part(entry.sizes.offset + kSize, name_size) == entry.name && flags == entry.flags && method == 0 &&
              (same_sizes || sizes_follow),
          "record " + name + " is described differently at its place than in the directory");
    const auto begin = entry.sizes.offset + kSize + name_size + extra_size;
    check(begin <= directory_begin && entry.sizes.plain <= directory_begin - begin,
          "record " + name + " reaches into the directory");
    return file_.substr(begin, entry.sizes.plain);
  }

  void check_apart(const std::map<std::string, std::string_view>& records) const {
    std::vector<std::string_view> parts;
    for (const auto& entry : records) {
      if (!entry.second.empty()) {
        parts.push_back(entry.second);
      }
    }
    std::ranges::sort(parts, [](const auto& a, const auto& b) { return a.data() < b.data(); });
    for (size_t i = 1; i < parts.size(); ++i) {
      check(parts[i - 1].data() + parts[i - 1].size() <= parts[i].data(), "two of its records overlap");
    }
  }

  std::string_view file_;
  const std::string& source_;
};

}  // namespace

std::map<std::string, std::string_view> read_zip_archive(std::string_view file, const std::string& source,
                                                         const std::function<void(const std::string&)>& check_name) {
  const auto name = printable(source);
  return ZipReader(file, name).records(check_name);
}

}  // namespace transformers
