#pragma once

#include <transformers/export.h>
#include <transformers/utils/data/data_collator.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace TRANSFORMERS_API transformers {

struct BatchLoaderOptions {
  int64_t batch_size = 8;
  /// A new order each epoch, which depends on the seed and the epoch alone.
  bool shuffle = true;
  uint64_t seed = 42;
  /// Of `world_size` processes, each takes its share of every global batch.
  int64_t rank = 0;
  int64_t world_size = 1;
  /// The batch to begin with, for a run that is continued.
  int64_t first_batch = 0;
  /// Batches made ahead in the background.
  size_t prefetch = 4;
};

/// Batches without end: samples come in the order of one epoch after the other, so that every batch is full and the
/// first sample follows the last. Samples are read and put together by a thread of its own.
class BatchLoader {
 public:
  BatchLoader(std::shared_ptr<const Dataset> dataset, DataCollator collator, BatchLoaderOptions options = {});
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  /// Throws what reading a sample threw.
  Batch next();
  /// The index of the batch that next() gives next; a loader with this first_batch continues from here.
  int64_t position() const { return position_; }
  /// Samples in an epoch, over all processes.
  int64_t size() const { return dataset_->size(); }
  /// Samples in a batch of all processes together.
  int64_t global_batch_size() const { return options_.batch_size * options_.world_size; }
  /// In words: "by seed 42" or "as they come".
  std::string order() const;
  /// Makes next() give this batch next. Throws when it is negative or beyond what can be counted in samples.
  void seek(int64_t batch);

  /// Which samples of the dataset a batch holds.
  std::vector<int64_t> sample_indices(int64_t batch) const;

 private:
  void start();
  void stop();
  void produce();

  std::shared_ptr<const Dataset> dataset_;
  DataCollator collator_;
  BatchLoaderOptions options_;
  int64_t position_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Batch> ready_;
  std::exception_ptr failure_;
  bool stopping_ = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace transformers
