#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <transformers/utils/training/dataset_check.h>

#include <array>
#include <charconv>
#include <utility>
#include <vector>

namespace transformers {
namespace {

/// Some samples of a dataset.
class Selection : public Dataset {
 public:
  Selection(std::shared_ptr<const Dataset> whole, std::vector<int64_t> indices)
      : whole_(std::move(whole)), indices_(std::move(indices)) {}

  int64_t size() const override { return static_cast<int64_t>(indices_.size()); }
  Batch get(int64_t index) const override { return whole_->get(indices_.at(static_cast<size_t>(index))); }

 private:
  std::shared_ptr<const Dataset> whole_;
  std::vector<int64_t> indices_;
};

/// FNV-1a, in 64 bits.
class Checksum {
 public:
  void add(const void* data, size_t size) {
    const auto* bytes = static_cast<const unsigned char*>(data);
    for (size_t i = 0; i < size; ++i) {
      hash_ = (hash_ ^ bytes[i]) * 1099511628211ULL;
    }
  }

  void add(const Batch& sample) {
    for (const auto& [name, tensor] : sample) {
      const auto values = tensor.contiguous();
      const auto sizes = values.sizes();
      add(name.data(), name.size());
      add(sizes.data(), sizes.size() * sizeof(int64_t));
      add(values.const_data_ptr(), values.nbytes());
    }
  }

  std::string text() const {
    std::array<char, 16> digits{};
    auto* const end = std::to_chars(digits.data(), digits.data() + digits.size(), hash_, 16).ptr;
    return {digits.data(), end};
  }

 private:
  uint64_t hash_ = 14695981039346656037ULL;
};

void check_sample(const Batch& sample, int64_t index, const SampleCheck& check) {
  try {
    check(sample);
  } catch (const c10::Error& error) {
    TORCH_CHECK(false, "sample ", index, " of the data (counted from 0): ", error.what_without_backtrace());
  }
}

}  // namespace

// NOLINTNEXTLINE(performance-unnecessary-value-param): it is kept in what is returned
CheckedDataset check_dataset(std::shared_ptr<const Dataset> dataset, const DataCollator& collator,
                             const TrainingTask& task, const SampleCheck& check) {
  TORCH_CHECK(dataset != nullptr && dataset->size() > 0, "a dataset with samples is needed");
  Checksum checksum;
  std::vector<int64_t> kept;
  for (int64_t i = 0; i < dataset->size(); ++i) {
    const auto sample = dataset->get(i);
    if (check) {
      check_sample(sample, i, check);
    }
    if (task.count_items(collator({sample})) > 0) {
      kept.push_back(i);
      checksum.add(sample);
    }
  }
  TORCH_CHECK(!kept.empty(), "no label counts in any of the ", dataset->size(), " samples");
  const auto left_out = dataset->size() - static_cast<int64_t>(kept.size());
  auto left = left_out == 0 ? dataset : std::make_shared<Selection>(dataset, std::move(kept));
  return {std::move(left), left_out, checksum.text()};
}

}  // namespace transformers
