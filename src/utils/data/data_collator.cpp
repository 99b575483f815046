#include <ATen/ATen.h>
#include <transformers/utils/data/data_collator.h>
#include <transformers/utils/modeling/losses.h>

#include <algorithm>

namespace transformers {
namespace {

std::vector<at::Tensor> column(const std::vector<Batch>& samples, const std::string& name) {
  std::vector<at::Tensor> tensors;
  for (const auto& sample : samples) {
    const auto found = sample.find(name);
    TORCH_CHECK(found != sample.end(), "samples of a batch must have the same tensors: one lacks \"", name, "\"");
    tensors.push_back(found->second);
  }
  return tensors;
}

/// A tensor that belongs to a text and not to its tokens: a class, a position, several labels (which transformers
/// stores as floats).
bool is_of_text(const at::Tensor& tensor) { return tensor.dim() == 0 || tensor.is_floating_point(); }

/// Pads the tensors [tokens] of all samples to one length; tensors that belong to a text are stacked unchanged.
at::Tensor padded(const std::vector<at::Tensor>& tensors, int64_t value, int64_t length) {
  std::vector<at::Tensor> rows;
  for (const auto& tensor : tensors) {
    rows.push_back(is_of_text(tensor) ? tensor : at::constant_pad_nd(tensor, {0, length - tensor.size(0)}, value));
  }
  return at::stack(rows);
}

void check_samples(const std::vector<Batch>& samples) {
  TORCH_CHECK(!samples.empty() && samples.front().contains("input_ids"), "a batch needs samples with \"input_ids\"");
  for (const auto& sample : samples) {
    TORCH_CHECK(sample.size() == samples.front().size(), "samples of a batch must have the same tensors: one has ",
                samples.front().size(), ", another ", sample.size());
  }
}

int64_t padding_value(const std::string& name, int64_t pad_token_id) {
  return name == "input_ids" ? pad_token_id : name == "labels" ? kIgnoreIndex : 0;
}

Batch pad(const std::vector<Batch>& samples, int64_t pad_token_id, int64_t multiple) {
  check_samples(samples);
  int64_t length = 0;
  for (const auto& ids : column(samples, "input_ids")) {
    length = std::max(length, ids.size(0));
  }
  length = (length + multiple - 1) / multiple * multiple;
  Batch batch;
  for (const auto& [name, first] : samples.front()) {
    batch[name] = padded(column(samples, name), padding_value(name, pad_token_id), length);
  }
  if (!batch.contains("attention_mask")) {
    std::vector<at::Tensor> masks;
    for (const auto& ids : column(samples, "input_ids")) {
      masks.push_back(at::ones_like(ids));
    }
    batch["attention_mask"] = padded(masks, 0, length);
  }
  return batch;
}

Batch flatten(const std::vector<Batch>& samples) {
  check_samples(samples);
  std::vector<at::Tensor> ids = column(samples, "input_ids"), labels, positions;
  for (const auto& sample : samples) {
    const auto label = (sample.contains("labels") ? sample.at("labels") : sample.at("input_ids")).clone();
    label[0] = kIgnoreIndex;
    labels.push_back(label);
    positions.push_back(at::arange(label.size(0), at::kLong));
  }
  const auto row = [](const std::vector<at::Tensor>& parts) { return at::cat(parts).unsqueeze(0); };
  return {{"input_ids", row(ids)}, {"labels", row(labels)}, {"position_ids", row(positions)}};
}

}  // namespace

DataCollator padding_collator(int64_t pad_token_id, int64_t pad_to_multiple_of) {
  TORCH_CHECK(pad_to_multiple_of > 0, "pad_to_multiple_of must be positive, got ", pad_to_multiple_of);
  return [=](const std::vector<Batch>& samples) { return pad(samples, pad_token_id, pad_to_multiple_of); };
}

DataCollator flattening_collator() { return flatten; }

int64_t count_items(const Batch& batch) {
  const auto labels = batch.find("labels");
  TORCH_CHECK(labels != batch.end() && labels->second.dim() == 2, "a batch of texts needs labels [batch, seq]");
  return labels->second.slice(1, 1).ne(kIgnoreIndex).sum().item<int64_t>();
}

}  // namespace transformers
