#include "utils/io/file_builders.h"

namespace transformers::testing {
namespace {

std::string zip64_extra(uint64_t size) {
  return little_endian<uint16_t>(1) + little_endian<uint16_t>(16) + little_endian(size) + little_endian(size);
}

std::string local_header(const ZipRecord& record) {
  const auto size = record.zip64 ? 0xFFFFFFFF : static_cast<uint32_t>(record.bytes.size());
  const auto extra = record.zip64 ? zip64_extra(record.bytes.size()) : "";
  return little_endian<uint32_t>(0x04034b50) + little_endian<uint16_t>(0) + little_endian(record.flags) +
         little_endian(record.method) + std::string(8, '\0') + little_endian(size) + little_endian(size) +
         little_endian(static_cast<uint16_t>(record.name.size())) + little_endian(static_cast<uint16_t>(extra.size())) +
         record.name + extra;
}

std::string directory_entry(const ZipRecord& record, size_t offset) {
  const auto true_size = record.bytes.size() + record.directory_size_error;
  const auto size = record.zip64 ? 0xFFFFFFFF : static_cast<uint32_t>(true_size);
  const auto extra = record.zip64 ? zip64_extra(true_size) : "";
  const auto& name = record.directory_name.empty() ? record.name : record.directory_name;
  return little_endian<uint32_t>(0x02014b50) + std::string(4, '\0') + little_endian(record.flags) +
         little_endian(record.method) + std::string(8, '\0') + little_endian(size) + little_endian(size) +
         little_endian(static_cast<uint16_t>(name.size())) + little_endian(static_cast<uint16_t>(extra.size())) +
         std::string(10, '\0') + little_endian(static_cast<uint32_t>(offset + record.offset_error)) + name + extra;
}

struct Archive {
  std::string records, directory;
  size_t count;
};

Archive lay_out(const std::vector<ZipRecord>& records) {
  Archive archive{{}, {}, records.size()};
  for (const auto& record : records) {
    archive.directory += directory_entry(record, archive.records.size());
    archive.records += local_header(record) + record.bytes;
  }
  return archive;
}

std::string end_record(const Archive& archive) {
  const auto count = little_endian(static_cast<uint16_t>(archive.count));
  return little_endian<uint32_t>(0x06054b50) + std::string(4, '\0') + count + count +
         little_endian(static_cast<uint32_t>(archive.directory.size())) +
         little_endian(static_cast<uint32_t>(archive.records.size())) + std::string(2, '\0');
}

}  // namespace

Tensors make_tensors(std::initializer_list<std::pair<std::string, at::Tensor>> items) {
  Tensors tensors;
  for (const auto& [name, tensor] : items) {
    tensors.insert(name, tensor);
  }
  return tensors;
}

std::string safetensors_bytes(std::string_view header, std::string_view data) {
  return little_endian<uint64_t>(header.size()).append(header).append(data);
}

std::string entry(std::string_view name, std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return std::string("\"")
      .append(name)
      .append("\":{\"dtype\":\"")
      .append(dtype)
      .append("\",\"shape\":")
      .append(shape)
      .append(",\"data_offsets\":")
      .append(offsets)
      .append("}");
}

std::string zip_bytes(const std::vector<ZipRecord>& records) {
  const auto archive = lay_out(records);
  return archive.records + archive.directory + end_record(archive);
}

std::string zip64_bytes(const std::vector<ZipRecord>& records, int entries_error) {
  const auto archive = lay_out(records);
  const auto count = little_endian<uint64_t>(records.size() + entries_error);
  const auto end64 = little_endian<uint32_t>(0x06064b50) + little_endian<uint64_t>(44) + std::string(12, '\0') + count +
                     count + little_endian<uint64_t>(archive.directory.size()) +
                     little_endian<uint64_t>(archive.records.size());
  const auto locator = little_endian<uint32_t>(0x07064b50) + std::string(4, '\0') +
                       little_endian<uint64_t>(archive.records.size() + archive.directory.size()) +
                       little_endian<uint32_t>(1);
  return archive.records + archive.directory + end64 + locator + end_record(archive);
}

std::string torch_zip(std::string_view pickle, const std::vector<std::string>& storages) {
  std::vector<ZipRecord> records{{"archive/data.pkl", std::string(pickle)}, {"archive/byteorder", "little"}};
  for (size_t i = 0; i < storages.size(); ++i) {
    records.push_back({"archive/data/" + std::to_string(i), storages[i]});
  }
  records.push_back({"archive/version", "3\n"});
  return zip_bytes(records);
}

namespace pickle {

std::string text(std::string_view value) {
  return std::string("X") + little_endian(static_cast<uint32_t>(value.size())) + std::string(value);
}

std::string integer(int64_t value) { return std::string("\x8a\x08") + little_endian(value); }

std::string tuple(const std::vector<std::string>& items) {
  std::string bytes = "(";
  for (const auto& item : items) {
    bytes += item;
  }
  return bytes + "t";
}

std::string global(std::string_view module, std::string_view name) {
  return std::string("c").append(module).append("\n").append(name).append("\n");
}

std::string storage(std::string_view type, std::string_view key, int64_t count) {
  return tuple({text("storage"), global("torch", type), text(key), text("cpu"), integer(count)}) + "Q";
}

std::string tensor(std::string_view storage, int64_t offset, const std::vector<int64_t>& sizes,
                   const std::vector<int64_t>& strides) {
  const auto integers = [](const std::vector<int64_t>& values) {
    std::vector<std::string> items;
    for (const auto value : values) {
      items.push_back(integer(value));
    }
    return tuple(items);
  };
  const auto hooks = global("collections", "OrderedDict") + ")R";
  return global("torch._utils", "_rebuild_tensor_v2") +
         tuple({std::string(storage), integer(offset), integers(sizes), integers(strides), "\x89", hooks}) + "R";
}

std::string dict(const std::vector<std::string>& items) {
  std::string bytes = "}(";
  for (const auto& item : items) {
    bytes += item;
  }
  return bytes + "u";
}

std::string whole(std::string_view value) { return std::string("\x80\x02").append(value).append("."); }

}  // namespace pickle

}  // namespace transformers::testing
