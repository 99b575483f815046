#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>
#include <transformers/utils/modeling/rope.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// Keys and values of one layer, each [batch, kv_heads, seq, head_dim].
using KeyValue = std::pair<at::Tensor, at::Tensor>;

/// The keys and values of past tokens, layer by layer. Mirrors HF's `Cache` (cache_utils.py, transformers 5.23.0). A
/// layer is created by its first `update`. Functions without a layer argument report the length of layer 0.
class Cache {
 public:
  virtual ~Cache() = default;
  /// Not copyable, as two copies would append to the same memory.
  /// `DynamicCache::from_legacy_cache(cache.to_legacy_cache())` makes an independent cache.
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  /// Appends a call's keys and values ([batch, kv_heads, seq, head_dim], keys already rotated) and returns the keys and
  /// values that the call attends to. Callers pass `rotary` when `rotary_positions()` is not 0.
  virtual KeyValue update(const at::Tensor& key, const at::Tensor& value, int64_t layer_idx,
                          const RotaryEmbeddings* rotary = nullptr) = 0;

  virtual int64_t get_seq_length(int64_t layer_idx = 0) const = 0;
  /// The largest number of tokens that fit; −1: no limit.
  virtual int64_t get_max_length() const { return -1; }
  /// The number of cached tokens before a call of `query_length` new ones, which is the position of its first token.
  virtual int64_t get_usable_length(int64_t query_length) const;
  /// The number of keys that a call of `query_length` tokens attends to, including the padding of a static buffer.
  virtual int64_t get_kv_length(int64_t query_length) const { return get_usable_length(query_length) + query_length; }
  /// The number of positions from 0 on whose cos and sin `update` needs ([positions, head_dim]); 0: it needs none.
  virtual int64_t rotary_positions() const { return 0; }

  virtual int64_t num_layers() const = 0;
  /// The filled part of a layer's keys and values.
  virtual KeyValue layer(int64_t layer_idx) const = 0;

  /// Row i becomes what row beam_idx[i] was. beam_idx: int64 [batch].
  virtual void reorder_cache(const at::Tensor& beam_idx) = 0;
  /// Empties the cache.
  virtual void reset() = 0;

 protected:
  Cache() = default;
  Cache(Cache&&) = default;
  Cache& operator=(Cache&&) = default;
};

/// A cache that grows with the text. HF concatenates at every step; this cache reserves capacity and appends in place,
/// so that a step does not copy old entries. While gradients are recorded it concatenates, because appending in place
/// would break the graph.
class DynamicCache : public Cache {
 public:
  DynamicCache() = default;

  KeyValue update(const at::Tensor& key, const at::Tensor& value, int64_t layer_idx,
                  const RotaryEmbeddings* rotary = nullptr) override;
  int64_t get_seq_length(int64_t layer_idx = 0) const override;
  int64_t num_layers() const override { return static_cast<int64_t>(layers_.size()); }
  KeyValue layer(int64_t layer_idx) const override;
  void reorder_cache(const at::Tensor& beam_idx) override { batch_select_indices(beam_idx); }
  void reset() override { layers_.clear(); }

  /// HF 5.x: 0 is a no-op, n < 0 removes the last |n| tokens, n > 0 throws.
  void crop(int64_t tokens_to_remove);
  /// Repeats each batch row `repeats` times in a row.
  void batch_repeat_interleave(int64_t repeats);
  /// Keeps these rows, in this order. indices: int64.
  void batch_select_indices(const at::Tensor& indices);

  /// Converts from the tuple form of transformers 4.x; an empty list makes an empty cache.
  static std::shared_ptr<DynamicCache> from_legacy_cache(const std::vector<KeyValue>& past_key_values);
  std::vector<KeyValue> to_legacy_cache() const;

 private:
  struct Layer {
    at::Tensor keys, values;  // [batch, kv_heads, capacity, head_dim]
    int64_t length = 0;
    bool has_own_memory = false;  // false: a caller or a graph may hold these tensors too
  };

  std::vector<Layer> layers_;
};

/// A cache of fixed size that is written in place. `update` returns the whole buffer, so shapes and addresses never
/// change. Throws on a token beyond `max_cache_len`.
class StaticCache : public Cache {
 public:
  explicit StaticCache(int64_t max_cache_len);

  /// Allocates at once instead of at the first `update`.
  void early_initialization(int64_t num_layers, int64_t batch, int64_t kv_heads, int64_t head_dim,
                            const at::TensorOptions& options);

  KeyValue update(const at::Tensor& key, const at::Tensor& value, int64_t layer_idx,
                  const RotaryEmbeddings* rotary = nullptr) override;
  int64_t get_seq_length(int64_t layer_idx = 0) const override;
  int64_t get_max_length() const override { return max_cache_len_; }
  int64_t get_kv_length(int64_t) const override { return max_cache_len_; }
  int64_t num_layers() const override { return static_cast<int64_t>(layers_.size()); }
  KeyValue layer(int64_t layer_idx) const override;
  void reorder_cache(const at::Tensor& beam_idx) override;
  /// Zeroes the buffers and keeps them.
  void reset() override;

 private:
  struct Layer {
    at::Tensor keys, values;  // [batch, kv_heads, max_cache_len, head_dim]
    int64_t length = 0;
  };

  int64_t max_cache_len_;
  std::vector<Layer> layers_;
};

/// Attention sinks: keeps the first `num_sink_tokens` and the latest tokens, `window_length` in all, and rotates the
/// kept keys to their new positions in fp32. Mirrors `SinkCache` of transformers 4.37.2.
class SinkCache : public Cache {
 public:
  SinkCache(int64_t window_length, int64_t num_sink_tokens);

  KeyValue update(const at::Tensor& key, const at::Tensor& value, int64_t layer_idx,
                  const RotaryEmbeddings* rotary = nullptr) override;
  int64_t get_seq_length(int64_t layer_idx = 0) const override;
  int64_t get_max_length() const override { return window_length_; }
  int64_t get_usable_length(int64_t query_length) const override;
  int64_t rotary_positions() const override { return window_length_; }
  int64_t num_layers() const override { return static_cast<int64_t>(layers_.size()); }
  KeyValue layer(int64_t layer_idx) const override;
  void reorder_cache(const at::Tensor& beam_idx) override;
  void reset() override { layers_.clear(); }

 private:
  /// Moves kept keys `shift` places to the front. keys: [batch, kv_heads, kept, head_dim]; only the first dimensions
  /// that `rotary` covers are rotated.
  at::Tensor rerotated(const at::Tensor& keys, const RotaryEmbeddings& rotary, int64_t shift) const;

  int64_t window_length_, num_sink_tokens_;
  std::vector<KeyValue> layers_;
};

/// `_reorder_cache(past, beam_idx)` of transformers 4.x, on the tuple form.
std::vector<KeyValue> reorder_cache(const std::vector<KeyValue>& past_key_values, const at::Tensor& beam_idx);

}  // namespace transformers
