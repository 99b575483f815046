// The key/value caches of HF (cache_utils.py, transformers 5.23.0; SinkCache of 4.37.2). DynamicCache appends in place
// to buffers whose capacity doubles, StaticCache writes into one buffer of fixed size, and SinkCache keeps a window
// whose keys it rotates to their new positions.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <transformers/utils/modeling/cache.h>

#include <algorithm>

namespace transformers {
namespace {

constexpr int64_t kSequence = 2;  // dimension of tokens
constexpr int64_t kCapacityStep = 128;

bool records_gradients(const at::Tensor& key, const at::Tensor& value, const at::Tensor& cached) {
  return at::GradMode::is_enabled() &&
         (key.requires_grad() || value.requires_grad() || (cached.defined() && cached.requires_grad()));
}

at::Tensor with_room(const at::Tensor& used, const at::Tensor& like, int64_t capacity) {
  auto sizes = like.sizes().vec();
  sizes[kSequence] = capacity;
  auto grown = at::empty(sizes, like.options());
  if (used.defined()) {
    grown.narrow(kSequence, 0, used.size(kSequence)).copy_(used);
  }
  return grown;
}

void check_appends(const at::Tensor& cached, const at::Tensor& key, int64_t layer_idx) {
  TORCH_CHECK(key.dim() == 4, "keys must have shape [batch, kv_heads, seq, head_dim], got ", key.sizes());
  TORCH_CHECK(!cached.defined() ||
                  (cached.size(0) == key.size(0) && cached.size(1) == key.size(1) && cached.size(3) == key.size(3)),
              "the cache of layer ", layer_idx, " holds keys of shape ", cached.sizes(), ", the call brings ",
              key.sizes());
}

template <typename Layers>
auto& checked_layer(Layers& layers, int64_t layer_idx) {
  TORCH_CHECK(layer_idx >= 0 && layer_idx < static_cast<int64_t>(layers.size()), "cache has ", layers.size(),
              " layers, asked for layer ", layer_idx);
  return layers[static_cast<size_t>(layer_idx)];
}

template <typename Layers>
auto& layer_or_new(Layers& layers, int64_t layer_idx) {
  TORCH_CHECK(layer_idx >= 0, "a cache's layers count from 0, got layer ", layer_idx);
  if (layer_idx >= static_cast<int64_t>(layers.size())) {
    layers.resize(static_cast<size_t>(layer_idx) + 1);
  }
  return layers[static_cast<size_t>(layer_idx)];
}

}  // namespace

int64_t Cache::get_usable_length(int64_t) const { return get_seq_length(); }

KeyValue DynamicCache::update(const at::Tensor& key, const at::Tensor& value, int64_t layer_idx,
                              const RotaryEmbeddings*) {
  auto& layer = layer_or_new(layers_, layer_idx);
  check_appends(layer.keys, key, layer_idx);
  const auto length = layer.length + key.size(kSequence);
  if (records_gradients(key, value, layer.keys)) {
    const auto appended = [&](const at::Tensor& cached, const at::Tensor& added) {
      return layer.length == 0 ? added : at::cat({cached.narrow(kSequence, 0, layer.length), added}, kSequence);
    };
    layer = {appended(layer.keys, key), appended(layer.values, value), length, /*has_own_memory=*/false};
    return {layer.keys, layer.values};
  }
  if (!layer.has_own_memory || layer.keys.size(kSequence) < length) {
    const auto doubled = std::max(2 * layer.length, length + 1);
    const auto capacity = (doubled + kCapacityStep - 1) / kCapacityStep * kCapacityStep;
    const auto used = [&](const at::Tensor& tensor) {
      return tensor.defined() ? tensor.narrow(kSequence, 0, layer.length) : tensor;
    };
    layer.keys = with_room(used(layer.keys), key, capacity);
    layer.values = with_room(used(layer.values), value, capacity);
    layer.has_own_memory = true;
  }
  layer.keys.narrow(kSequence, layer.length, key.size(kSequence)).copy_(key);
  layer.values.narrow(kSequence, layer.length, key.size(kSequence)).copy_(value);
  layer.length = length;
  return this->layer(layer_idx);
}

int64_t DynamicCache::get_seq_length(int64_t layer_idx) const {
  return layer_idx >= 0 && layer_idx < num_layers() ? layers_[static_cast<size_t>(layer_idx)].length : 0;
}

KeyValue DynamicCache::layer(int64_t layer_idx) const {
  const auto& layer = checked_layer(layers_, layer_idx);
  return {layer.keys.narrow(kSequence, 0, layer.length), layer.values.narrow(kSequence, 0, layer.length)};
}

void DynamicCache::crop(int64_t tokens_to_remove) {
  TORCH_CHECK(tokens_to_remove <= 0, "DynamicCache::crop takes the negated number of tokens to remove, got ",
              tokens_to_remove);
  for (auto& layer : layers_) {
    layer.length = std::max<int64_t>(0, layer.length + tokens_to_remove);
  }
}

void DynamicCache::batch_repeat_interleave(int64_t repeats) {
  for (auto& layer : layers_) {
    layer.keys = layer.keys.repeat_interleave(repeats, 0);
    layer.values = layer.values.repeat_interleave(repeats, 0);
  }
}

void DynamicCache::batch_select_indices(const at::Tensor& indices) {
  for (auto& layer : layers_) {
    layer.keys = layer.keys.index_select(0, indices.to(layer.keys.device()));
    layer.values = layer.values.index_select(0, indices.to(layer.values.device()));
  }
}

std::shared_ptr<DynamicCache> DynamicCache::from_legacy_cache(const std::vector<KeyValue>& past_key_values) {
  auto cache = std::make_shared<DynamicCache>();
  for (const auto& [keys, values] : past_key_values) {
    cache->update(keys, values, cache->num_layers());
  }
  return cache;
}

std::vector<KeyValue> DynamicCache::to_legacy_cache() const {
  std::vector<KeyValue> legacy;
  legacy.reserve(static_cast<size_t>(num_layers()));
  for (int64_t i = 0; i < num_layers(); ++i) {
    legacy.push_back(layer(i));
  }
  return legacy;
}

StaticCache::StaticCache(int64_t max_cache_len) : max_cache_len_(max_cache_len) {
  TORCH_CHECK(max_cache_len > 0, "StaticCache: max_cache_len must be above 0, got ", max_cache_len);
}

void StaticCache::early_initialization(int64_t num_layers, int64_t batch, int64_t kv_heads, int64_t head_dim,
                                       const at::TensorOptions& options) {
  for (int64_t i = 0; i < num_layers; ++i) {
    auto& layer = layer_or_new(layers_, i);
    layer.keys = at::zeros({batch, kv_heads, max_cache_len_, head_dim}, options);
    layer.values = at::zeros_like(layer.keys);
    layer.length = 0;
  }
}

KeyValue StaticCache::update(const at::Tensor& key, const at::Tensor& value, int64_t layer_idx,
                             const RotaryEmbeddings*) {
  auto& layer = layer_or_new(layers_, layer_idx);
  check_appends(layer.keys, key, layer_idx);
  const auto added = key.size(kSequence);
  TORCH_CHECK(layer.length + added <= max_cache_len_, "StaticCache holds ", max_cache_len_, " tokens, ",
              layer.length + added, " were asked of layer ", layer_idx);
  if (!layer.keys.defined()) {
    layer.keys = at::zeros({key.size(0), key.size(1), max_cache_len_, key.size(3)}, key.options());
    layer.values = at::zeros({value.size(0), value.size(1), max_cache_len_, value.size(3)}, value.options());
  }
  layer.keys.narrow(kSequence, layer.length, added).copy_(key);
  layer.values.narrow(kSequence, layer.length, added).copy_(value);
  layer.length += added;
  return {layer.keys, layer.values};
}

int64_t StaticCache::get_seq_length(int64_t layer_idx) const {
  return layer_idx >= 0 && layer_idx < num_layers() ? layers_[static_cast<size_t>(layer_idx)].length : 0;
}

KeyValue StaticCache::layer(int64_t layer_idx) const {
  const auto& layer = checked_layer(layers_, layer_idx);
  return {layer.keys.narrow(kSequence, 0, layer.length), layer.values.narrow(kSequence, 0, layer.length)};
}

void StaticCache::reorder_cache(const at::Tensor& beam_idx) {
  for (auto& layer : layers_) {
    layer.keys.copy_(layer.keys.index_select(0, beam_idx.to(layer.keys.device())));
    layer.values.copy_(layer.values.index_select(0, beam_idx.to(layer.values.device())));
  }
}

void StaticCache::reset() {
  for (auto& layer : layers_) {
    layer.keys.zero_();
    layer.values.zero_();
    layer.length = 0;
  }
}

SinkCache::SinkCache(int64_t window_length, int64_t num_sink_tokens)
    : window_length_(window_length), num_sink_tokens_(num_sink_tokens) {
  TORCH_CHECK(num_sink_tokens >= 0 && window_length > num_sink_tokens,
              "SinkCache: window_length must be above num_sink_tokens, got ", window_length, " and ", num_sink_tokens);
}

int64_t SinkCache::get_seq_length(int64_t layer_idx) const {
  return layer_idx >= 0 && layer_idx < num_layers() ? layers_[static_cast<size_t>(layer_idx)].first.size(kSequence) : 0;
}

int64_t SinkCache::get_usable_length(int64_t query_length) const {
  return std::min(get_seq_length(), std::max<int64_t>(0, window_length_ - query_length));
}

KeyValue SinkCache::layer(int64_t layer_idx) const { return checked_layer(layers_, layer_idx); }

at::Tensor SinkCache::rerotated(const at::Tensor& keys, const RotaryEmbeddings& rotary, int64_t shift) const {
  const auto kept = keys.size(kSequence);
  const auto at_positions = [&](const at::Tensor& table, int64_t first) {
    return table.narrow(0, first, kept).to(at::kFloat);
  };
  const auto old_cos = at_positions(rotary.cos, num_sink_tokens_ + shift);
  const auto old_sin = at_positions(rotary.sin, num_sink_tokens_ + shift);
  const auto new_cos = at_positions(rotary.cos, num_sink_tokens_);
  const auto new_sin = at_positions(rotary.sin, num_sink_tokens_);
  const auto cos = (old_cos * new_cos + old_sin * new_sin).to(keys.scalar_type());
  const auto sin = (-old_sin * new_cos + old_cos * new_sin).to(keys.scalar_type());
  const auto rotated_dims = cos.size(-1);
  const auto rotated = keys.narrow(-1, 0, rotated_dims);
  const auto moved = rotated * cos + rotate_half(rotated) * sin;
  return rotated_dims == keys.size(-1)
             ? moved
             : at::cat({moved, keys.narrow(-1, rotated_dims, keys.size(-1) - rotated_dims)}, -1);
}

KeyValue SinkCache::update(const at::Tensor& key, const at::Tensor& value, int64_t layer_idx,
                           const RotaryEmbeddings* rotary) {
  auto& [keys, values] = layer_or_new(layers_, layer_idx);
  check_appends(keys, key, layer_idx);
  const auto added = key.size(kSequence);
  if (!keys.defined()) {
    keys = key;
    values = value;
  } else if (keys.size(kSequence) + added < window_length_) {
    keys = at::cat({keys, key}, kSequence);
    values = at::cat({values, value}, kSequence);
  } else {
    const auto kept = window_length_ - num_sink_tokens_ - added;
    TORCH_CHECK(kept >= 0, "SinkCache: ", added, " new tokens do not fit beside ", num_sink_tokens_,
                " sink tokens in a window of ", window_length_);
    const auto latest = [&](const at::Tensor& tensor) {
      return tensor.narrow(kSequence, tensor.size(kSequence) - kept, kept);
    };
    const auto sinks = [&](const at::Tensor& tensor) { return tensor.narrow(kSequence, 0, num_sink_tokens_); };
    const auto kept_keys = rotary != nullptr ? rerotated(latest(keys), *rotary, added) : latest(keys);
    keys = at::cat({sinks(keys), kept_keys, key}, kSequence);
    values = at::cat({sinks(values), latest(values), value}, kSequence);
  }
  return {keys, values};
}

void SinkCache::reorder_cache(const at::Tensor& beam_idx) { layers_ = transformers::reorder_cache(layers_, beam_idx); }

std::vector<KeyValue> reorder_cache(const std::vector<KeyValue>& past_key_values, const at::Tensor& beam_idx) {
  std::vector<KeyValue> reordered;
  reordered.reserve(past_key_values.size());
  for (const auto& [keys, values] : past_key_values) {
    reordered.emplace_back(keys.index_select(0, beam_idx.to(keys.device())),
                           values.index_select(0, beam_idx.to(values.device())));
  }
  return reordered;
}

}  // namespace transformers
