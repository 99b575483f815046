#include <ATen/ATen.h>
#include <transformers/utils/data/dataset.h>
#include <transformers/utils/io/safetensors.h>

#include "utils/data/text_file.h"
#include "utils/text/printable.h"

namespace transformers {

TensorDataset::TensorDataset(Batch columns) : columns_(std::move(columns)) {
  TORCH_CHECK(!columns_.empty(), "a dataset needs at least one tensor");
  for (const auto& [name, column] : columns_) {
    TORCH_CHECK(column.dim() > 0 && column.size(0) > 0, "dataset tensor \"", name, "\" must have rows, its shape is ",
                column.sizes());
    TORCH_CHECK(column.size(0) == columns_.begin()->second.size(0), "dataset tensors \"", columns_.begin()->first,
                "\" and \"", name, "\" must have the same number of rows, found ", columns_.begin()->second.size(0),
                " and ", column.size(0));
  }
  size_ = columns_.begin()->second.size(0);
}

std::shared_ptr<TensorDataset> TensorDataset::from_file(const std::string& path) {
  const SafetensorsFile file(path);
  Batch columns;
  for (const auto& info : file.tensors()) {
    columns[info.name] = file.tensor(info.name);
  }
  const auto ids = columns.find("input_ids");
  TORCH_CHECK(ids != columns.end() && ids->second.scalar_type() == at::kLong && ids->second.dim() == 2, path,
              ": tensor \"input_ids\" must be int64 [samples, seq], ",
              ids == columns.end() ? "it is missing" : "found " + std::string(toString(ids->second.scalar_type())));
  columns.try_emplace("labels", ids->second);
  return std::make_shared<TensorDataset>(std::move(columns));
}

Batch TensorDataset::get(int64_t index) const {
  Batch sample;
  for (const auto& [name, column] : columns_) {
    sample[name] = column[index];
  }
  return sample;
}

TextBlockDataset::TextBlockDataset(const std::string& path, const Tokenizer& tokenizer, int64_t seq_length) {
  TORCH_CHECK(seq_length > 0, "seq_length must be positive, got ", seq_length);
  check_is_text(path);
  const auto ids = std::make_shared<std::vector<int32_t>>(encode_text_file(path, tokenizer));
  const auto blocks = static_cast<int64_t>(ids->size()) / seq_length;
  TORCH_CHECK(blocks > 0, printable(path), ": the text has ", ids->size(), " tokens, a block of seq_length needs ",
              seq_length);
  ids_ = at::from_blob(
      ids->data(), {blocks, seq_length}, [ids](void*) {}, at::kInt);
}

Batch TextBlockDataset::get(int64_t index) const {
  const auto ids = ids_[index].to(at::kLong);
  return {{"input_ids", ids}, {"labels", ids}};
}

}  // namespace transformers
