// One unit of a fully sharded module: the all-gather that makes its parameters whole, the all-to-all and sum that
// reduce and scatter its gradients, and the exchange of the parameters' data between rows and whole tensors.
#include "utils/fully_sharded/sharded_unit.h"

#include <ATen/ATen.h>
#include <transformers/utils/distributed/module_sync.h>
#include <transformers/utils/distributed/storage.h>
#include <transformers/utils/nn/state_dict.h>

#include "utils/distributed/internal/c10d_handles.h"
#include "utils/distributed/internal/c10d_versions.h"
#include "utils/distributed/internal/collective_check.h"
#include "utils/distributed/internal/collective_error.h"

namespace transformers {
namespace {

constexpr int64_t kSyncBucketBytes = 25 << 20;

}  // namespace

template <typename Run>
auto ShardedUnit::naming(const char* operation, Run&& run) const {
  const auto text = std::string(operation) + (name_.empty() ? "the root unit" : name_);
  return naming_rank(group_.rank(), group_.size(), text, std::forward<Run>(run));
}

ShardedUnit::ShardedUnit(std::string name, const std::vector<NamedParameter>& parameters, const ProcessGroup& group,
                         const MixedPrecision& precision, bool sync)
    : name_(std::move(name)), group_(group), dtype_(parameters.front().parameter.scalar_type()) {
  const at::NoGradGuard no_grad;
  const bool floating = c10::isFloatingType(dtype_);
  low_dtype_ = floating ? precision.param_dtype.value_or(dtype_) : dtype_;
  reduce_dtype_ = floating ? precision.reduce_dtype.value_or(low_dtype_) : dtype_;
  for (const auto& named : parameters) {
    add(named);
  }
  shards_ = at::zeros({piece_numel_}, at::TensorOptions(dtype_).device(group_.device()));
  for (auto& entry : entries_) {
    take_rows(entry, sync);
  }
  make_whole_storage(low_dtype_);
}

void ShardedUnit::add(const NamedParameter& named) {
  Entry entry{.name = named.name, .parameter = named.parameter, .sizes = named.parameter.sizes().vec()};
  entry.chunk_rows = (entry.sizes[0] + group_.size() - 1) / group_.size();
  entry.row_numel = entry.sizes[0] == 0 ? 0 : named.parameter.numel() / entry.sizes[0];
  entry.offset = piece_numel_;
  piece_numel_ += entry.chunk();
  entries_.push_back(std::move(entry));
}

at::Tensor ShardedUnit::whole_values(const Entry& entry, bool sync) const {
  if (!sync) {
    return entry.parameter.detach();
  }
  auto values = group_.rank() == 0 ? entry.parameter.detach().to(group_.device()).contiguous()
                                   : at::empty(entry.sizes, shards_.options());
  sync_params_and_buffers(group_, {values}, kSyncBucketBytes, /*src=*/0);
  return values;
}

void ShardedUnit::take_rows(Entry& entry, bool sync) {
  const auto rank = group_.rank();
  auto sizes = entry.sizes;
  sizes[0] = entry.rows(rank);
  entry.shard = shards_.narrow(0, entry.offset, sizes[0] * entry.row_numel).view(sizes);
  entry.shard.copy_(whole_values(entry, sync).narrow(0, entry.start(rank), sizes[0]));
  if (entry.parameter.is_meta()) {
    assign_tensor(entry.parameter, entry.shard);
  } else {
    entry.parameter.mutable_grad().reset();
    entry.parameter.set_data(entry.shard);
  }
}

void ShardedUnit::make_whole_storage(c10::ScalarType dtype) {
  int64_t numel = 0;
  for (const auto& entry : entries_) {
    numel += entry.sizes[0] * entry.row_numel;
  }
  whole_ = at::empty({numel}, shards_.options().dtype(dtype));
  int64_t offset = 0;
  for (auto& entry : entries_) {
    const auto length = entry.sizes[0] * entry.row_numel;
    entry.whole = whole_.narrow(0, offset, length).view(entry.sizes);
    offset += length;
  }
  free_storage(whole_);
}

std::vector<ShardedParameter> ShardedUnit::parameters() const {
  std::vector<ShardedParameter> parameters;
  for (const auto& entry : entries_) {
    parameters.push_back({entry.name, entry.parameter, entry.sizes, entry.start(group_.rank())});
  }
  return parameters;
}

/// The rows that this unit made are what is gathered; data that replaced them would be missed.
void ShardedUnit::check_in_place(const Entry& entry) const {
  TORCH_CHECK(same_storage(entry.parameter, shards_) && entry.parameter.sizes() == entry.shard.sizes(),
              "FullyShardedDataParallel: the data of ", entry.name,
              " was replaced after it was sharded (moved, cast or resized?); change the module before");
}

ShardedUnit::Message ShardedUnit::start_gather(c10::ScalarType dtype) const {
  TORCH_CHECK(!uses_gathered_, "FullyShardedDataParallel computes nothing while summon_full_params lives");
  for (const auto& entry : entries_) {
    check_in_place(entry);
  }
  Message message{.input = shards_.to(dtype)};
  message.output = at::empty({group_.size() * piece_numel_}, message.input.options());
  check_same_operation(group_, "all-gather of unit '" + name_ + "', " + shape_text(message.input));
  message.work = naming("all-gather of ",
                        [&] { return all_gather_single(*group_.handle().group, message.output, message.input); });
  return message;
}

void ShardedUnit::finish_gather(Message& message, const std::vector<at::Tensor>& wholes) const {
  const at::NoGradGuard no_grad;
  naming("all-gather of ", [&] { message.work->wait(); });
  for (int64_t rank = 0; rank < group_.size(); ++rank) {
    const auto pieces = message.output.narrow(0, rank * piece_numel_, piece_numel_);
    for (size_t i = 0; i < entries_.size(); ++i) {
      const auto& entry = entries_[i];
      const auto length = entry.rows(rank) * entry.row_numel;
      wholes[i]
          .view({-1})
          .narrow(0, entry.start(rank) * entry.row_numel, length)
          .copy_(pieces.narrow(0, entry.offset, length));
    }
  }
  message = {};
}

void ShardedUnit::prefetch() {
  if (!is_whole_ && !gather_.work) {
    const at::NoGradGuard no_grad;
    gather_ = start_gather(low_dtype_);
  }
}

void ShardedUnit::unshard() {
  if (is_whole_) {
    return;
  }
  prefetch();
  alloc_storage(whole_, whole_.sizes());
  std::vector<at::Tensor> wholes;
  for (const auto& entry : entries_) {
    wholes.push_back(entry.whole);
  }
  auto message = std::exchange(gather_, {});
  finish_gather(message, wholes);
  for (auto& entry : entries_) {
    entry.parameter.set_data(entry.whole);
  }
  is_whole_ = true;
}

void ShardedUnit::reshard() {
  drop_prefetch();
  if (!is_whole_) {
    return;
  }
  for (auto& entry : entries_) {
    entry.parameter.set_data(entry.shard);
  }
  free_storage(whole_);
  is_whole_ = false;
}

void ShardedUnit::drop_prefetch() {
  if (gather_.work) {
    auto message = std::exchange(gather_, {});
    naming("all-gather of ", [&] { message.work->wait(); });
  }
}

void ShardedUnit::begin_backward() {
  if (in_backward_) {
    return;
  }
  in_backward_ = true;
  for (auto& entry : entries_) {
    entry.sharded_gradient = std::exchange(entry.parameter.mutable_grad(), {});
  }
}

/// Takes the gradients that autograd computed. Returns whether there is something to send.
bool ShardedUnit::take_gradients(bool keep) {
  bool found = false;
  gradients_.assign(entries_.size(), {});
  for (size_t i = 0; i < entries_.size(); ++i) {
    auto& entry = entries_[i];
    auto gradient = std::exchange(entry.parameter.mutable_grad(), {});
    if (!gradient.defined()) {
      continue;
    }
    found = true;
    if (gradient.is_sparse()) {
      gradient = gradient.to_dense();
    }
    if (entry.kept_gradient.defined()) {
      gradient = std::exchange(entry.kept_gradient, {}).add_(gradient);
    }
    (keep ? entry.kept_gradient : gradients_[i]) = keep ? gradient.to(dtype_) : gradient;
  }
  return found && !keep;
}

/// [ranks, pieces, flags]: each rank's rows, then which parameters have a gradient here. Gradients are divided before
/// they are added, so that the sum remains in the range of a small dtype.
at::Tensor ShardedUnit::packed_gradients() {
  const auto count = static_cast<int64_t>(entries_.size());
  const auto packed = at::zeros({group_.size(), piece_numel_ + count}, shards_.options().dtype(reduce_dtype_));
  for (size_t i = 0; i < entries_.size(); ++i) {
    auto& entry = entries_[i];
    const auto gradient = std::exchange(gradients_[i], {});
    if (!gradient.defined() && !entry.kept_gradient.defined()) {
      continue;
    }
    const auto flat = (gradient.defined() ? gradient : std::exchange(entry.kept_gradient, {})).reshape({-1});
    for (int64_t rank = 0; rank < group_.size(); ++rank) {
      const auto length = entry.rows(rank) * entry.row_numel;
      packed[rank].narrow(0, entry.offset, length).copy_(flat.narrow(0, entry.start(rank) * entry.row_numel, length));
    }
    packed.select(1, piece_numel_ + static_cast<int64_t>(i)).fill_(1);
  }
  return packed.div_(group_.size());
}

void ShardedUnit::post_backward(bool sync) {
  const at::NoGradGuard no_grad;
  if (!in_backward_) {
    return;
  }
  const bool sends = take_gradients(/*keep=*/!sync);
  reshard();
  if (!sends) {
    return;
  }
  finish_reduction();
  reduction_.input = packed_gradients();
  reduction_.output = at::empty_like(reduction_.input);
  check_same_operation(group_, "reduction of unit '" + name_ + "', " + shape_text(reduction_.input));
  reduction_.work = naming("reduction of ", [&] {
    return all_to_all_equal_parts(*group_.handle().group, reduction_.output.view({-1}), reduction_.input.view({-1}));
  });
}

void ShardedUnit::finish_reduction() {
  if (!reduction_.work) {
    return;
  }
  const at::NoGradGuard no_grad;
  const auto message = std::exchange(reduction_, {});
  naming("reduction of ", [&] { message.work->wait(); });
  const auto sum = message.output.sum(0);
  const auto flags = sum.narrow(0, piece_numel_, static_cast<int64_t>(entries_.size())).to(at::kCPU, at::kFloat);
  for (size_t i = 0; i < entries_.size(); ++i) {
    auto& entry = entries_[i];
    if (flags.const_data_ptr<float>()[i] > 0) {
      const auto length = entry.shard.numel();
      add_gradient(entry, sum.narrow(0, entry.offset, length).view(entry.shard.sizes()).to(dtype_));
    }
  }
}

void ShardedUnit::add_gradient(Entry& entry, const at::Tensor& gradient) const {
  if (entry.sharded_gradient.defined()) {
    entry.sharded_gradient.add_(gradient);
  } else {
    // The gradient must not be a view in autograd: LibTorch's zero_grad detaches gradients in place, which views
    // refuse.
    entry.sharded_gradient = gradient.variable_data();
  }
}

void ShardedUnit::end_backward() {
  if (!in_backward_) {
    return;
  }
  finish_reduction();
  for (auto& entry : entries_) {
    entry.parameter.mutable_grad() = std::exchange(entry.sharded_gradient, {});
  }
  in_backward_ = false;
}

void ShardedUnit::abandon_backward() {
  if (in_backward_) {
    reduction_ = {};
    for (auto& entry : entries_) {
      entry.kept_gradient.reset();
      entry.parameter.mutable_grad() = std::exchange(entry.sharded_gradient, {});
    }
    in_backward_ = false;
  }
}

std::vector<at::Tensor> ShardedUnit::gathered() const {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> wholes;
  for (const auto& entry : entries_) {
    wholes.push_back(at::empty(entry.sizes, shards_.options()));
  }
  auto message = start_gather(dtype_);
  finish_gather(message, wholes);
  return wholes;
}

void ShardedUnit::use_gathered() {
  const auto wholes = gathered();
  for (size_t i = 0; i < entries_.size(); ++i) {
    entries_[i].parameter.set_data(wholes[i]);
  }
  uses_gathered_ = true;
}

void ShardedUnit::release_gathered(bool writeback) {
  if (!std::exchange(uses_gathered_, false)) {
    return;
  }
  const at::NoGradGuard no_grad;
  for (auto& entry : entries_) {
    if (writeback) {
      entry.shard.copy_(entry.parameter.detach().narrow(0, entry.start(group_.rank()), entry.shard.size(0)));
    }
    entry.parameter.set_data(entry.shard);
  }
}

}  // namespace transformers
