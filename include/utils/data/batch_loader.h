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
  /// Use a new order in each epoch, which depends only on the seed and the epoch.
  bool shuffle = true;
  uint64_t seed = 42;
  /// Each of `world_size` processes takes its share of every global batch.
  int64_t rank = 0;
  int64_t world_size = 1;
  /// Index of the first batch, for a run that is continued.
  int64_t first_batch = 0;
  /// Number of batches prepared ahead in the background.
  size_t prefetch = 4;
};

/// An endless sequence of batches: epochs follow each other without a gap, so that every batch is full and may span two
/// epochs. A background thread reads and collates the samples.
class BatchLoader {
 public:
  BatchLoader(std::shared_ptr<const Dataset> dataset, DataCollator collator, BatchLoaderOptions options = {});
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  /// The next batch. Rethrows an error from reading a sample.
  Batch next();
  /// The index of the batch that next() returns next; a loader with this first_batch continues from here.
  int64_t position() const { return position_; }
  /// Number of samples in an epoch, over all processes.
  int64_t size() const { return dataset_->size(); }
  /// Number of samples in a batch of all processes together.
  int64_t global_batch_size() const { return options_.batch_size * options_.world_size; }
  /// The order in words: "by seed 42" or "as they come".
  std::string order() const;
  /// Makes this batch the next one. Throws when the index is negative or so large that its samples cannot be counted.
  void seek(int64_t batch);

  /// The samples of the dataset that a batch holds.
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
  std::thread thread_;  // must be the last member, as it uses all others
};

}  // namespace transformers
