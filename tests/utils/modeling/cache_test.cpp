#include <ATen/ATen.h>
#include <transformers/utils/modeling/cache.h>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

KeyValue tokens(int64_t count, int64_t batch = 2) {
  return {at::randn({batch, 2, count, 4}), at::randn({batch, 2, count, 4})};
}

KeyValue joined(const KeyValue& first, const KeyValue& second) {
  return {at::cat({first.first, second.first}, 2), at::cat({first.second, second.second}, 2)};
}

void expect_pair(const KeyValue& actual, const KeyValue& expected) {
  EXPECT_TENSORS_EQUAL(actual.first, expected.first);
  EXPECT_TENSORS_EQUAL(actual.second, expected.second);
}

TEST(DynamicCacheTest, ReturnsWhatWasPutInInOrder) {
  DynamicCache cache;
  const auto first = tokens(3), second = tokens(1);
  cache.update(first.first, first.second, 0);
  expect_pair(cache.update(second.first, second.second, 0), joined(first, second));
  expect_pair(cache.layer(0), joined(first, second));
  EXPECT_EQ(cache.get_seq_length(), 4);
  EXPECT_EQ(cache.get_seq_length(1), 0);
  EXPECT_EQ(cache.get_kv_length(2), 6);
  EXPECT_EQ(cache.get_max_length(), -1);
}

TEST(DynamicCacheTest, AppendsInPlaceWhileItHasRoom) {
  DynamicCache cache;
  const auto prompt = tokens(3);
  const auto* address = cache.update(prompt.first, prompt.second, 0).first.data_ptr();
  int64_t moves = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto [key, value] = tokens(1);
    const auto* now = cache.update(key, value, 0).first.data_ptr();
    moves += now != address ? 1 : 0;
    address = now;
  }
  EXPECT_EQ(cache.get_seq_length(), 1003);
  EXPECT_LE(moves, 4);  // 128 doubles to 1024 and beyond
}

TEST(DynamicCacheTest, GradientsFlowThroughAppendedKeys) {
  DynamicCache cache;
  const auto [key, value] = tokens(2);
  key.requires_grad_();
  cache.update(key, value, 0);
  const auto step = tokens(1);
  cache.update(step.first, step.second, 0).first.sum().backward();
  EXPECT_TENSORS_EQUAL(key.grad(), at::ones_like(key));
}

TEST(DynamicCacheTest, AppendingNeverWritesIntoTheCallersTensors) {
  DynamicCache cache;
  const auto [key, value] = tokens(3);
  key.requires_grad_();
  cache.update(key, value, 0);
  cache.crop(-1);
  const auto before = value.clone();
  const at::NoGradGuard no_grad;
  const auto step = tokens(1);
  cache.update(step.first, step.second, 0);
  EXPECT_TENSORS_EQUAL(value, before);
}

TEST(DynamicCacheTest, CropRemovesTheLastTokens) {
  DynamicCache cache;
  const auto all = tokens(5), next = tokens(1);
  cache.update(all.first, all.second, 0);
  cache.crop(0);
  EXPECT_EQ(cache.get_seq_length(), 5);
  cache.crop(-2);
  const KeyValue kept{all.first.narrow(2, 0, 3), all.second.narrow(2, 0, 3)};
  expect_pair(cache.layer(0), kept);
  expect_pair(cache.update(next.first, next.second, 0), joined(kept, next));
  cache.crop(-99);
  EXPECT_EQ(cache.get_seq_length(), 0);
  EXPECT_ERROR(cache.crop(2), "crop", "got 2");
}

TEST(DynamicCacheTest, RowsAreRepeatedAndChosen) {
  DynamicCache cache;
  const auto all = tokens(2);
  cache.update(all.first, all.second, 0);
  cache.batch_repeat_interleave(2);
  EXPECT_TENSORS_EQUAL(cache.layer(0).first, all.first.repeat_interleave(2, 0));
  cache.batch_select_indices(at::tensor({3, 0}));
  EXPECT_TENSORS_EQUAL(cache.layer(0).second, all.second.index_select(0, at::tensor({1, 0})));
  cache.reorder_cache(at::tensor({1, 1}));
  EXPECT_TENSORS_EQUAL(cache.layer(0).first, all.first.index_select(0, at::tensor({0, 0})));
  cache.reset();
  EXPECT_EQ(cache.num_layers(), 0);
}

TEST(DynamicCacheTest, TuplesGoInAndOut) {
  const std::vector<KeyValue> legacy{tokens(3), tokens(3)};
  const auto cache = DynamicCache::from_legacy_cache(legacy);
  EXPECT_EQ(cache->num_layers(), 2);
  const auto back = cache->to_legacy_cache();
  for (size_t i = 0; i < 2; ++i) {
    expect_pair(back[i], legacy[i]);
  }
  EXPECT_EQ(DynamicCache::from_legacy_cache({})->num_layers(), 0);
  const auto reordered = reorder_cache(legacy, at::tensor({1, 0}));
  EXPECT_TENSORS_EQUAL(reordered[1].first, legacy[1].first.flip(0));
}

TEST(DynamicCacheTest, RefusesWhatDoesNotFit) {
  DynamicCache cache;
  const auto all = tokens(2), other_batch = tokens(1, 3);
  cache.update(all.first, all.second, 0);
  EXPECT_ERROR(cache.update(other_batch.first, other_batch.second, 0), "layer 0", "[2, 2, ", "[3, 2, 1, 4]");
  const auto other_heads = at::randn({2, 1, 1, 4});
  EXPECT_ERROR(cache.update(other_heads, other_heads, 0), "layer 0", "[2, 1, 1, 4]");
  EXPECT_ERROR(cache.layer(1), "1 layers", "layer 1");
  EXPECT_ERROR(cache.update(all.first, all.second, -1), "layer", "-1");
  EXPECT_EQ(cache.get_seq_length(-1), 0);
}

TEST(StaticCacheTest, ReturnsTheWholeBufferAtOneAddress) {
  StaticCache cache(4);
  const auto first = tokens(2), second = tokens(1);
  const auto buffer = cache.update(first.first, first.second, 0);
  EXPECT_EQ(buffer.first.sizes(), (at::IntArrayRef{2, 2, 4, 4}));
  EXPECT_EQ(cache.update(second.first, second.second, 0).first.data_ptr(), buffer.first.data_ptr());
  expect_pair(cache.layer(0), joined(first, second));
  EXPECT_TENSORS_EQUAL(buffer.first.narrow(2, 3, 1), at::zeros({2, 2, 1, 4}));
  EXPECT_EQ(cache.get_max_length(), 4);
  EXPECT_EQ(cache.get_kv_length(1), 4);
}

TEST(StaticCacheTest, ThrowsBeyondItsLengthAndZeroesOnReset) {
  StaticCache cache(4);
  cache.early_initialization(2, 2, 2, 4, at::kFloat);
  EXPECT_EQ(cache.num_layers(), 2);
  const auto four = tokens(4), one = tokens(1);
  const auto buffer = cache.update(four.first, four.second, 1);
  EXPECT_ERROR(cache.update(one.first, one.second, 1), "StaticCache", "holds 4", "5", "layer 1");
  cache.reorder_cache(at::tensor({1, 0}));
  EXPECT_TENSORS_EQUAL(buffer.first, four.first.flip(0));
  cache.reset();
  EXPECT_TENSORS_EQUAL(buffer.first, at::zeros({2, 2, 4, 4}));
  EXPECT_EQ(cache.get_seq_length(1), 0);
  EXPECT_ERROR(StaticCache(0), "max_cache_len", "above 0");
}

TEST(SinkCacheTest, EveryUpdateEqualsPython) {
  for (const auto& c : golden_cases("legacy", "sink_cache")) {
    SinkCache cache(c.get<int64_t>("window_length"), c.get<int64_t>("num_sink_tokens"));
    const RotaryEmbeddings rotary{.cos = c.tensor("cos"), .sin = c.tensor("sin")};
    for (int64_t i = 0; i < c.get<int64_t>("steps"); ++i) {
      const auto step = "step" + std::to_string(i) + ".";
      SCOPED_TRACE(c.name + " " + step);
      const auto [keys, values] = cache.update(c.tensor(step + "key"), c.tensor(step + "value"), 0, &rotary);
      EXPECT_TENSORS_CLOSE(keys, c.tensor(step + "keys"));
      EXPECT_TENSORS_EQUAL(values, c.tensor(step + "values"));
    }
  }
}

TEST(SinkCacheTest, LengthsStopAtTheWindow) {
  SinkCache cache(4, 1);
  const auto three = tokens(3), one = tokens(1), four = tokens(4);
  cache.update(three.first, three.second, 0);
  EXPECT_EQ(cache.get_usable_length(1), 3);
  EXPECT_EQ(cache.get_usable_length(3), 1);
  cache.update(one.first, one.second, 0);
  cache.update(one.first, one.second, 0);
  EXPECT_EQ(cache.get_seq_length(), 4);
  EXPECT_EQ(cache.get_max_length(), 4);
  EXPECT_ERROR(cache.update(four.first, four.second, 0), "4 new tokens", "1 sink", "window of 4");
  cache.reorder_cache(at::tensor({1, 0}));
  EXPECT_TENSORS_EQUAL(cache.layer(0).first.narrow(2, 0, 1), three.first.narrow(2, 0, 1).flip(0));
  EXPECT_ERROR(SinkCache(2, 2), "window_length", "2 and 2");
}

}  // namespace
}  // namespace transformers::testing
