#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>  // ordered_dict.h needs it and does not include it
#include <torch/ordered_dict.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace transformers::testing {

using Tensors = torch::OrderedDict<std::string, at::Tensor>;

Tensors make_tensors(std::initializer_list<std::pair<std::string, at::Tensor>> items);

/// `value` in little-endian bytes.
template <class Number>
std::string little_endian(Number value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

/// A safetensors file with whatever header and data.
std::string safetensors_bytes(std::string_view header, std::string_view data = "");

/// One tensor entry of a header: "name":{"dtype":...}.
std::string entry(std::string_view name, std::string_view dtype, std::string_view shape, std::string_view offsets);

/// A record of a zip archive; what is written at its place and in the directory can be made to disagree.
struct ZipRecord {
  std::string name, bytes;
  uint16_t flags = 0;
  uint16_t method = 0;
  int32_t directory_size_error = 0;  // added to both sizes in the directory
  std::string directory_name = {};   // when not `name`
  int32_t offset_error = 0;
  bool zip64 = false;
};

/// A zip archive of stored records.
std::string zip_bytes(const std::vector<ZipRecord>& records);

/// The same with the 64-bit end record and its locator that torch.save adds; `entries_error` spoils its count.
std::string zip64_bytes(const std::vector<ZipRecord>& records, int entries_error = 0);

/// What torch.save writes around a pickle: data.pkl, byteorder, version and the storages data/0, data/1, ...
std::string torch_zip(std::string_view pickle, const std::vector<std::string>& storages = {});

// Pieces of a pickle of protocol 2, for putting together by hand.
namespace pickle {
std::string text(std::string_view value);
std::string integer(int64_t value);
std::string tuple(const std::vector<std::string>& items);
std::string global(std::string_view module, std::string_view name);
/// A persistent id: a storage of `count` elements of the type torch.<type>, in the record data/<key>.
std::string storage(std::string_view type, std::string_view key, int64_t count);
/// _rebuild_tensor_v2(storage, offset, sizes, strides, False, OrderedDict()).
std::string tensor(std::string_view storage, int64_t offset, const std::vector<int64_t>& sizes,
                   const std::vector<int64_t>& strides);
/// A dictionary of key, value, key, ... pieces.
std::string dict(const std::vector<std::string>& items);
/// The whole: protocol, value, stop.
std::string whole(std::string_view value);
}  // namespace pickle

}  // namespace transformers::testing
