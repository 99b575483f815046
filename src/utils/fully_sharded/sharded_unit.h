#pragma once

#include <transformers/utils/fully_sharded/fully_sharded.h>

#include <algorithm>
#include <torch/csrc/distributed/c10d/Work.hpp>

namespace transformers {

/// A parameter before it is sharded.
struct NamedParameter {
  std::string name{};
  at::Tensor parameter{};
};

/// Parameters of one dtype that are gathered, used and freed together. Each parameter is split by rows into as many
/// pieces as there are ranks, as by `torch.chunk`. A rank's pieces of all parameters are stored one after the other,
/// padded to the longest, and are sent in one message. The tensors of the module remain the same objects; only their
/// data is exchanged.
///
/// Gradients are reduced and scattered by sending each rank its rows, which it sums in the order of the ranks. gloo's
/// reduce-scatter is an all-reduce, which sends twice as much.
///
/// Whole parameters are in one storage, whose memory is allocated and freed while the storage itself remains, so that
/// tensors saved by autograd are valid whenever the parameters are whole.
class ShardedUnit {
 public:
  /// Keeps this rank's rows of the parameters, with `sync` those of rank 0's values.
  ShardedUnit(std::string name, const std::vector<NamedParameter>& parameters, const ProcessGroup& group,
              const MixedPrecision& precision, bool sync);
  ShardedUnit(const ShardedUnit&) = delete;
  ShardedUnit& operator=(const ShardedUnit&) = delete;

  const std::string& name() const { return name_; }
  std::vector<ShardedParameter> parameters() const;

  /// Starts the all-gather, unless the unit is whole or the all-gather is in progress.
  void prefetch();
  void unshard();
  /// Frees the whole parameters and drops an all-gather in progress.
  void reshard();
  /// Waits for a prefetch that was not used, and drops it.
  void drop_prefetch();

  /// Sets the gradients of the rank's rows aside, so that autograd can accumulate whole ones.
  void begin_backward();
  /// Sends the whole gradients, if there are any, or keeps them when not `sync`, and frees the whole parameters.
  void post_backward(bool sync);
  /// Waits for a reduction in progress.
  void finish_reduction();
  /// Gives the parameters the gradients of their rows again.
  void end_backward();
  /// Discards the gradients of a backward that threw.
  void abandon_backward();

  /// Returns the whole parameters in their own dtype as new tensors. A collective operation.
  std::vector<at::Tensor> gathered() const;
  /// Replaces the rows by whole parameters, and back; `writeback` keeps this rank's rows of the written values.
  void use_gathered();
  void release_gathered(bool writeback);

 private:
  struct Entry {
    std::string name{};
    at::Tensor parameter{};        // the module's own, whose data is that of one of the next two
    at::Tensor shard{}, whole{};   // [rows, ...]; whole: a part of `whole_`
    std::vector<int64_t> sizes{};  // of the whole parameter
    int64_t chunk_rows = 0;        // of each rank but the last ones
    int64_t row_numel = 0;
    int64_t offset = 0;             // of its piece within the rank's pieces
    at::Tensor sharded_gradient{};  // in backward: the gradients from before
    at::Tensor kept_gradient{};     // whole, from backwards that were not synchronised

    int64_t start(int64_t rank) const { return std::min(rank * chunk_rows, sizes[0]); }
    int64_t rows(int64_t rank) const { return start(rank + 1) - start(rank); }
    int64_t chunk() const { return chunk_rows * row_numel; }
  };
  struct Message {
    c10::intrusive_ptr<c10d::Work> work{};
    at::Tensor input{}, output{};
  };

  void add(const NamedParameter& named);
  void take_rows(Entry& entry, bool sync);
  at::Tensor whole_values(const Entry& entry, bool sync) const;
  void make_whole_storage(c10::ScalarType dtype);
  void check_in_place(const Entry& entry) const;
  Message start_gather(c10::ScalarType dtype) const;
  void finish_gather(Message& message, const std::vector<at::Tensor>& wholes) const;
  bool take_gradients(bool keep);
  at::Tensor packed_gradients();
  void add_gradient(Entry& entry, const at::Tensor& gradient) const;
  template <typename Run>
  auto naming(const char* operation, Run&& run) const;

  std::string name_;
  ProcessGroup group_;
  c10::ScalarType dtype_;                     // of the parameters
  c10::ScalarType low_dtype_, reduce_dtype_;  // of computation; of sent gradients
  std::vector<Entry> entries_;
  std::vector<at::Tensor> gradients_;  // whole, by entry, until they are packed into a message
  int64_t piece_numel_ = 0;            // of one rank, padding included
  at::Tensor shards_;                  // [piece_numel]: every entry's shard is a part
  at::Tensor whole_;
  bool is_whole_ = false, in_backward_ = false, uses_gathered_ = false;
  Message gather_, reduction_;
};

}  // namespace transformers
