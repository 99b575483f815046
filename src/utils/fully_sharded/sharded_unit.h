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

/// Parameters of one dtype that are gathered, used and given back together. Each is cut into as many pieces of whole
/// rows as there are ranks, as by `torch.chunk`; a rank's pieces of all parameters lie one after the other, padded to
/// the longest, and are what it sends. The tensors of the module stay the same objects; their data is exchanged.
///
/// Gradients are reduced and scattered by sending each rank its rows and adding them up there, in the order of the
/// ranks: gloo has no reduce-scatter but an all-reduce, which sends twice as much.
///
/// Whole parameters lie in one storage that stays while its memory comes and goes, so that what autograd has saved of
/// them is valid whenever they are whole.
class ShardedUnit {
 public:
  /// Keeps this rank's rows of the parameters; with `sync` they are rank 0's values.
  ShardedUnit(std::string name, const std::vector<NamedParameter>& parameters, const ProcessGroup& group,
              const MixedPrecision& precision, bool sync);
  ShardedUnit(const ShardedUnit&) = delete;
  ShardedUnit& operator=(const ShardedUnit&) = delete;

  const std::string& name() const { return name_; }
  std::vector<ShardedParameter> parameters() const;

  /// Starts the all-gather of what is not whole nor on its way.
  void prefetch();
  void unshard();
  /// Gives the whole parameters back, and drops what is on its way.
  void reshard();
  /// Waits for a prefetch that nothing came to use.
  void drop_prefetch();

  /// Puts the gradients of the rank's rows aside, so that autograd may bring whole ones.
  void begin_backward();
  /// Sends the whole gradients that came, if any, or keeps them when not `sync`, and gives the parameters back.
  void post_backward(bool sync);
  /// Waits for gradients on their way.
  void finish_reduction();
  /// The parameters have the gradients of their rows again.
  void end_backward();
  /// After a backward that threw: forgets what it brought.
  void abandon_backward();

  /// The whole parameters in their own dtype, in memory of the caller's. A collective.
  std::vector<at::Tensor> gathered() const;
  /// Whole parameters in place of the rows, and back; `writeback` keeps this rank's rows of what was written.
  void use_gathered();
  void release_gathered(bool writeback);

 private:
  struct Entry {
    std::string name{};
    at::Tensor parameter{};        // the module's own, whose data is one of the next two
    at::Tensor shard{}, whole{};   // [rows, ...]; whole: a part of `whole_`
    std::vector<int64_t> sizes{};  // of the whole
    int64_t chunk_rows = 0;        // of each rank but the last ones
    int64_t row_numel = 0;
    int64_t offset = 0;             // of its piece among the rank's pieces
    at::Tensor sharded_gradient{};  // in backward: what is there already
    at::Tensor kept_gradient{};     // whole, of backwards that were not synchronised

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
  c10::ScalarType low_dtype_, reduce_dtype_;  // in which they compute, in which gradients travel
  std::vector<Entry> entries_;
  std::vector<at::Tensor> gradients_;  // whole, by entry, on their way into a message
  int64_t piece_numel_ = 0;            // of a rank, padding included
  at::Tensor shards_;                  // [piece_numel]: every entry's shard is a part
  at::Tensor whole_;
  bool is_whole_ = false, in_backward_ = false, uses_gathered_ = false;
  Message gather_, reduction_;
};

}  // namespace transformers
