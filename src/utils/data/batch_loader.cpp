#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <transformers/utils/data/batch_loader.h>

#include <limits>

namespace transformers {
namespace {

/// The endless stream of samples: one epoch's order after the other.
class SampleOrder {
 public:
  SampleOrder(int64_t size, const BatchLoaderOptions& options) : size_(size), options_(options) {}

  int64_t at(int64_t place) {
    if (const auto epoch = place / size_; epoch != epoch_) {
      order_ = order_of(epoch);
      epoch_ = epoch;
    }
    return order_.const_data_ptr<int64_t>()[place % size_];
  }

 private:
  at::Tensor order_of(int64_t epoch) const {
    if (!options_.shuffle) {
      return at::arange(size_, at::kLong);
    }
    const auto generator = at::detail::createCPUGenerator(options_.seed + static_cast<uint64_t>(epoch));
    return at::randperm(size_, generator, at::kLong);
  }

  int64_t size_;
  BatchLoaderOptions options_;
  int64_t epoch_ = -1;
  at::Tensor order_;  // int64 [size]
};

std::vector<int64_t> samples_of(int64_t batch, SampleOrder& order, const BatchLoaderOptions& options) {
  std::vector<int64_t> indices;
  const auto first = (batch * options.world_size + options.rank) * options.batch_size;
  for (int64_t i = 0; i < options.batch_size; ++i) {
    indices.push_back(order.at(first + i));
  }
  return indices;
}

/// Samples are counted in 64 bits.
void check_batch(const char* name, int64_t batch, const BatchLoaderOptions& options) {
  const auto most = std::numeric_limits<int64_t>::max() / options.batch_size / options.world_size - 1;
  TORCH_CHECK(batch >= 0 && batch <= most, name, " must be in [0, ", most, "], got ", batch);
}

void check(const Dataset& dataset, const BatchLoaderOptions& options) {
  TORCH_CHECK(dataset.size() > 0, "a batch loader needs a dataset with samples");
  TORCH_CHECK(options.batch_size > 0, "batch_size must be positive, got ", options.batch_size);
  TORCH_CHECK(options.rank >= 0 && options.rank < options.world_size, "rank must lie in [0, world_size), got ",
              options.rank, " of ", options.world_size);
  check_batch("first_batch", options.first_batch, options);
  TORCH_CHECK(options.prefetch > 0, "prefetch must be positive");
}

}  // namespace

BatchLoader::BatchLoader(std::shared_ptr<const Dataset> dataset, DataCollator collator, BatchLoaderOptions options)
    : dataset_(std::move(dataset)), collator_(std::move(collator)), options_(options), position_(options.first_batch) {
  check(*dataset_, options_);
  start();
}

BatchLoader::~BatchLoader() { stop(); }

void BatchLoader::start() {
  stopping_ = false;
  thread_ = std::thread([this] { produce(); });
}

void BatchLoader::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void BatchLoader::seek(int64_t batch) {
  check_batch("a batch index", batch, options_);
  stop();
  ready_.clear();
  failure_ = nullptr;
  position_ = options_.first_batch = batch;
  start();
}

std::string BatchLoader::order() const {
  return options_.shuffle ? "by seed " + std::to_string(options_.seed) : "as they come";
}

std::vector<int64_t> BatchLoader::sample_indices(int64_t batch) const {
  SampleOrder order(dataset_->size(), options_);
  return samples_of(batch, order, options_);
}

void BatchLoader::produce() {
  try {
    SampleOrder order(dataset_->size(), options_);
    for (auto batch = options_.first_batch;; ++batch) {
      std::vector<Batch> samples;
      for (const auto index : samples_of(batch, order, options_)) {
        samples.push_back(dataset_->get(index));
      }
      auto made = collator_(samples);
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || ready_.size() < options_.prefetch; });
      if (stopping_) {
        return;
      }
      ready_.push_back(std::move(made));
      changed_.notify_all();
    }
  } catch (...) {
    const std::lock_guard<std::mutex> lock(mutex_);
    failure_ = std::current_exception();
    changed_.notify_all();
  }
}

Batch BatchLoader::next() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return !ready_.empty() || failure_; });
  if (ready_.empty()) {
    std::rethrow_exception(failure_);
  }
  auto batch = std::move(ready_.front());
  ready_.pop_front();
  ++position_;
  changed_.notify_all();
  return batch;
}

}  // namespace transformers
