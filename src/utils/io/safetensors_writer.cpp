// Follows what the safetensors library, version 0.8.0, writes.
#include "utils/io/internal/safetensors_writer.h"

#include <c10/util/Exception.h>
#include <transformers/utils/io/safetensors.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "utils/files/internal/replace_file.h"
#include "utils/io/internal/safetensors_header.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are written as they lie in memory");

using Item = torch::OrderedDict<std::string, at::Tensor>::Item;

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const auto length = utf8_length(text);
    if (length == 0) {
      return false;
    }
    text.remove_prefix(length);
  }
  return true;
}

void check_writable(const Item& item) {
  const auto& [name, tensor] = item.pair();
  TORCH_CHECK(is_utf8(name) && name != kSafetensorsMetadata, "safetensors: ", printable(name),
              " cannot be the name of a tensor");
  TORCH_CHECK(tensor.defined(), "safetensors: tensor ", printable(name), " is undefined");
  TORCH_CHECK(!tensor.is_meta() && tensor.layout() == at::kStrided, "safetensors: tensor ", printable(name),
              " holds no dense data (", tensor.device(), ", ", tensor.layout(), ")");
  TORCH_CHECK(!safetensors_name(tensor.scalar_type()).empty(), "safetensors: tensor ", printable(name),
              ": the format has no dtype ", tensor.scalar_type());
}

std::vector<const Item*> in_file_order(const torch::OrderedDict<std::string, at::Tensor>& tensors) {
  std::vector<const Item*> items;
  for (const auto& item : tensors) {
    check_writable(item);
    items.push_back(&item);
  }
  std::ranges::sort(items, [](const Item* a, const Item* b) {
    const auto rank = [](const Item* item) { return safetensors_rank(item->value().scalar_type()); };
    return rank(a) != rank(b) ? rank(a) < rank(b) : a->key() < b->key();
  });
  return items;
}

std::string header_text(const std::vector<const Item*>& items, const std::map<std::string, std::string>& metadata) {
  auto header = nlohmann::ordered_json::object();
  if (!metadata.empty()) {
    for (const auto& [key, value] : metadata) {
      TORCH_CHECK(is_utf8(key) && is_utf8(value), "safetensors: metadata ", printable(key), " is not UTF-8");
    }
    header[kSafetensorsMetadata] = metadata;
  }
  // Entries are appended as to a list: ordered_json would search for each name first.
  auto& entries = static_cast<std::vector<nlohmann::ordered_json::object_t::value_type>&>(
      header.get_ref<nlohmann::ordered_json::object_t&>());
  int64_t offset = 0;
  for (const auto* item : items) {
    const auto& tensor = item->value();
    const auto end = offset + static_cast<int64_t>(tensor.nbytes());
    nlohmann::ordered_json entry;
    entry["dtype"] = safetensors_name(tensor.scalar_type());
    entry["shape"] = tensor.sizes().vec();
    entry["data_offsets"] = {offset, end};
    entries.emplace_back(item->key(), std::move(entry));
    offset = end;
  }
  auto text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  TORCH_CHECK(text.size() <= kMaxSafetensorsHeader, "safetensors: the header would be ", text.size(),
              " bytes long, more than ", kMaxSafetensorsHeader);
  return text;
}

}  // namespace

void write_safetensors(const ByteSink& sink, const torch::OrderedDict<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const auto items = in_file_order(tensors);
  const auto header = header_text(items, metadata);
  const uint64_t length = header.size();
  sink({reinterpret_cast<const char*>(&length), sizeof length});
  sink(header);
  for (const auto* item : items) {
    const auto dense = item->value().detach().to(at::kCPU).resolve_conj().resolve_neg().contiguous();
    sink({static_cast<const char*>(dense.const_data_ptr()), dense.nbytes()});
  }
}

void save_safetensors(const std::string& path, const torch::OrderedDict<std::string, at::Tensor>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  replace_file(path, [&](const ByteSink& sink) { write_safetensors(sink, tensors, metadata); });
}

}  // namespace transformers
