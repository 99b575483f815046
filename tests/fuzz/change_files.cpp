#include <c10/util/Exception.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "fuzz/changes.h"
#include "utils/io/file_builders.h"
#include "utils/io/zip_archive.h"

namespace transformers::fuzz {
namespace {

using testing::ZipRecord;

std::vector<ZipRecord> records_of(std::string_view archive) {
  std::vector<ZipRecord> records;
  try {
    for (const auto& [name, bytes] : read_zip_archive(archive, "input", [](const std::string&) {})) {
      records.push_back({.name = name, .bytes = std::string(bytes)});
    }
  } catch (const c10::Error&) {
    records.clear();
  }
  return records;
}

void change_record(ZipRecord& record, Random& random) {
  switch (below(random, 8)) {
    case 0:
      record.flags = static_cast<uint16_t>(1 << below(random, 16));
      break;
    case 1:
      record.method = static_cast<uint16_t>(below(random, 2) * 8);
      break;
    case 2:
      record.directory_size_error = static_cast<int32_t>(random());
      break;
    case 3:
      record.directory_name = change_bytes(record.name, random);
      break;
    case 4:
      record.offset_error = static_cast<int32_t>(below(random, 3)) - 1;
      break;
    case 5:
      record.name = change_bytes(record.name, random);
      break;
    case 6:
      record.zip64 = true;
      break;
    default:
      record.bytes = change_bytes(record.bytes, random);
  }
}

/// The largest number that could be the end of the data: below a limit that keeps inputs small.
size_t wanted_data(std::string_view header) {
  constexpr size_t kMost = 4096;
  size_t most = 0, number = 0;
  for (const char c : header) {
    const bool is_digit = c >= '0' && c <= '9';
    number = is_digit ? std::min<size_t>(number * 10 + static_cast<size_t>(c - '0'), kMost + 1) : 0;
    most = number <= kMost ? std::max(most, number) : most;
  }
  return most;
}

}  // namespace

std::string change_zip(std::string input, Random& random) {
  auto records = records_of(input);
  if (records.empty() || below(random, 8) == 0) {
    return change_bytes(std::move(input), random);
  }
  const auto at = below(random, records.size());
  const auto pickle =
      std::ranges::find_if(records, [](const ZipRecord& record) { return record.name.ends_with("data.pkl"); });
  if (pickle != records.end() && below(random, 8) != 0) {
    pickle->bytes = change_pickle(pickle->bytes, random);
  } else if (below(random, 4) == 0) {
    records.erase(records.begin() + static_cast<std::ptrdiff_t>(at));
  } else {
    change_record(records[at], random);
  }
  return below(random, 2) == 0 ? testing::zip_bytes(records) : testing::zip64_bytes(records);
}

std::string change_safetensors(std::string input, Random& random) {
  uint64_t length = 0;
  if (input.size() >= sizeof length) {
    std::memcpy(&length, input.data(), sizeof length);
  }
  if (input.size() < sizeof length || length > input.size() - sizeof length || below(random, 8) == 0) {
    return change_bytes(std::move(input), random);
  }
  auto data = input.substr(sizeof length + length);
  if (data.size() > 1 && below(random, 8) == 0) {
    data = change_bytes(std::move(data), random);
    return testing::safetensors_bytes(input.substr(sizeof length, length), data);
  }
  const auto header = change_json(input.substr(sizeof length, length), random);
  if (below(random, 4) != 0) {
    data.resize(wanted_data(header), '\1');
  }
  return testing::safetensors_bytes(header, data);
}

}  // namespace transformers::fuzz
