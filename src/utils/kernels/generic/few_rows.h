#pragma once

#include "utils/kernels/generic/vectors.h"

// Few rows of x against a weight that is read where it lies. Four rows of the weight are read at a time, each from a
// quarter of the outputs of its own: four streams that each go on for long are what memory serves fastest. They are
// multiplied with as many rows of x as there are registers for sums; further rows of x find the four in the cache.
namespace transformers::kernels {
namespace {

constexpr int kStreams = 4;
constexpr int kMaxRows = kLanes == 16 ? 6 : 3;
constexpr int64_t kBytesAhead = 512;

template <typename T>
struct Streams {
  const T* weights[kStreams];
  int64_t in;
  int64_t to_next;  // elements from one row of the weight to the next

  /// Asks for what is read a while after element i; after the end of the rows that is the beginning of the next ones.
  [[gnu::always_inline]] void prefetch(int64_t i) const {
    constexpr int64_t kAhead = kBytesAhead / static_cast<int64_t>(sizeof(T));
    const int64_t ahead = i + kAhead < in ? i + kAhead : i + kAhead - in + to_next;
    for (const T* weight : weights) {
      __builtin_prefetch(weight + ahead);
    }
  }
};

/// sums[row][stream] += the next kLanes products of each.
template <int kRows, typename T>
[[gnu::always_inline]] inline void add_products(const T* const (&weights)[kStreams], const float* x, int64_t x_stride,
                                                int64_t i, Floats (&sums)[kRows][kStreams]) {
  for (int stream = 0; stream < kStreams; ++stream) {
    const Floats weight = load_floats(weights[stream] + i);
    for (int row = 0; row < kRows; ++row) {
      sums[row][stream] += weight * read<Floats>(x + row * x_stride + i);
    }
  }
}

/// The elements from i on, fewer than kLanes.
template <int kRows, typename T>
[[gnu::always_inline]] inline void add_rest(const Streams<T>& streams, const float* x, int64_t x_stride, int64_t i,
                                            Floats (&sums)[kRows][kStreams]) {
  T rest[kStreams][kLanes] = {};
  const T* weights[kStreams];
  for (int stream = 0; stream < kStreams; ++stream) {
    for (int64_t j = i; j < streams.in; ++j) {
      rest[stream][j - i] = streams.weights[stream][j];
    }
    weights[stream] = rest[stream];
  }
  add_products<kRows>(weights, x + i, x_stride, 0, sums);
}

template <int kRows, typename T>
void dot_products(const Streams<T>& streams, const float* x, int64_t x_stride, float (*results)[kStreams]) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  const Streams<T> s = streams;
  Floats sums[kRows][kStreams] = {};
  int64_t i = 0;
  for (; i + kLine <= s.in; i += kLine) {
    s.prefetch(i);
    for (int64_t j = 0; j < kLine; j += kLanes) {
      add_products<kRows>(s.weights, x, x_stride, i + j, sums);
    }
  }
  for (; i + kLanes <= s.in; i += kLanes) {
    add_products<kRows>(s.weights, x, x_stride, i, sums);
  }
  if (i < s.in) {
    add_rest<kRows>(s, x, x_stride, i, sums);
  }
  for (int row = 0; row < kRows; ++row) {
    for (int stream = 0; stream < kStreams; ++stream) {
      results[row][stream] = sum_of(sums[row][stream]);
    }
  }
}

template <typename T>
using DotProducts = void (*)(const Streams<T>& streams, const float* x, int64_t x_stride, float (*results)[kStreams]);

template <typename T, int... kRows>
constexpr auto dot_products_by_rows(std::integer_sequence<int, kRows...>) {
  struct Table {
    DotProducts<T> of[sizeof...(kRows)];
  };
  return Table{{dot_products<kRows + 1, T>...}};
}

/// of[rows - 1] for 1 to kMaxRows rows.
template <typename T>
constexpr auto kDotProducts = dot_products_by_rows<T>(std::make_integer_sequence<int, kMaxRows>());

/// The outputs of one row of each stream, which are `apart`; the first is `output`.
template <typename T>
void multiply_streams(const FewRows<T>& product, int64_t output, int64_t apart, int64_t count) {
  const int64_t x_stride = (product.in + kFewRowsPadding - 1) / kFewRowsPadding * kFewRowsPadding;
  const int64_t passes = (product.rows + kMaxRows - 1) / kMaxRows;
  Streams<T> streams{{}, product.in, product.weight_stride};
  for (int stream = 0; stream < kStreams; ++stream) {  // one too many repeats the last
    const int64_t o = output + (stream < count ? stream : count - 1) * apart;
    streams.weights[stream] = product.weight + o * product.weight_stride;
  }
  for (int64_t pass = 0; pass < passes; ++pass) {
    const int64_t first = pass * product.rows / passes, rows = (pass + 1) * product.rows / passes - first;
    float sums[kMaxRows][kStreams];
    kDotProducts<T>.of[rows - 1](streams, product.x + first * x_stride, x_stride, sums);
    for (int64_t i = 0; i < rows * count; ++i) {
      const int64_t row = i / count, stream = i % count, o = output + stream * apart;
      const float bias = product.bias == nullptr ? 0 : load(product.bias[o]);
      store(product.y[(first + row) * product.y_stride + o], sums[row][stream] + bias);
    }
  }
}

template <typename T>
void few_rows(const FewRows<T>& product, int64_t begin, int64_t end) {
  const int64_t quarter = (end - begin) / kStreams, rest = (end - begin) % kStreams;
  for (int64_t o = begin; o < begin + quarter; ++o) {
    multiply_streams(product, o, quarter, kStreams);
  }
  if (rest > 0) {
    multiply_streams(product, end - rest, 1, rest);
  }
}

}  // namespace
}  // namespace transformers::kernels
