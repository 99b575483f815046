#pragma once

#include "utils/kernels/generic/vectors.h"

// Conversion of a piece of the right matrix to float32, for tiles of kTileColumns columns: tile after tile; in each,
// element (k, column) is at k · kTileColumns + column. Columns beyond the last are there and hold anything.
namespace transformers::kernels {
namespace {

constexpr int64_t kTileColumns = int64_t{2} * kLanes;

struct Piece {
  int64_t inner_begin, inner_end, column_begin, column_end;
};

using FourWords __attribute__((vector_size(16))) = uint32_t;

/// Lane i of the result is the lane of `low` or, from kLanes on, of `high` that the index of i names.
template <typename Index, int... kLane>
[[gnu::always_inline]] inline Words picked(Words low, Words high, std::integer_sequence<int, kLane...>) {
  return __builtin_shufflevector(low, high, Index::of(kLane)...);
}

/// In each group of four lanes: the first, or last, two of both vectors in turn.
template <int kFrom>
struct Interleaved {
  static constexpr int of(int lane) { return lane / 4 * 4 + kFrom + lane % 4 / 2 + (lane % 2) * kLanes; }
};

/// In each group of four lanes: the first, or last, two of `low`, then those of `high`.
template <int kFrom>
struct Joined {
  static constexpr int of(int lane) { return lane / 4 * 4 + kFrom + lane % 2 + (lane % 4 / 2) * kLanes; }
};

template <typename Index>
[[gnu::always_inline]] inline Words pick(Words low, Words high) {
  return picked<Index>(low, high, std::make_integer_sequence<int, kLanes>());
}

/// Four words of each of kLanes / 4 columns that are four columns apart.
template <typename T>
[[gnu::always_inline]] inline Words read_every_fourth(const T* const* columns, int64_t k) {
#ifdef __AVX512F__
  const auto words = _mm512_castsi128_si512(read<__m128i>(columns[0] + k));
  const auto two = _mm512_inserti32x4(words, read<__m128i>(columns[4] + k), 1);
  const auto three = _mm512_inserti32x4(two, read<__m128i>(columns[8] + k), 2);
  return reinterpret_cast<Words>(_mm512_inserti32x4(three, read<__m128i>(columns[12] + k), 3));
#elif defined(__AVX2__)
  return reinterpret_cast<Words>(
      _mm256_inserti128_si256(_mm256_castsi128_si256(read<__m128i>(columns[0] + k)), read<__m128i>(columns[4] + k), 1));
#else
  return read<Words>(columns[0] + k);
#endif
}

/// Writes the rows that lie in one word of each column.
[[gnu::always_inline]] inline void write_rows(Words words, float* to, float /*type*/) { write(to, as_floats(words)); }
[[gnu::always_inline]] inline void write_rows(Words words, float* to, BFloat16Bits /*type*/) {
  write(to, as_floats(words << 16));
  write(to + kTileColumns, as_floats(words & 0xffff0000U));
}
[[gnu::always_inline]] inline void write_rows(Words words, float* to, Float16Bits /*type*/) {
  write(to, floats_of_halves(words & 0xffffU));
  write(to + kTileColumns, floats_of_halves(words >> 16));
}

/// Elements in four words.
template <typename T>
constexpr int64_t kFourWords = 16 / static_cast<int64_t>(sizeof(T));

/// kFourWords elements of each of kLanes columns, whose elements are neighbours in memory.
template <typename T>
[[gnu::always_inline]] inline void transpose(const T* const* columns, int64_t k, float* to) {
  constexpr int64_t kStep = kFourWords<T> / 4 * kTileColumns;
  const Words a = read_every_fourth(columns, k), b = read_every_fourth(columns + 1, k);
  const Words c = read_every_fourth(columns + 2, k), d = read_every_fourth(columns + 3, k);
  const Words ab_low = pick<Interleaved<0>>(a, b), ab_high = pick<Interleaved<2>>(a, b);
  const Words cd_low = pick<Interleaved<0>>(c, d), cd_high = pick<Interleaved<2>>(c, d);
  write_rows(pick<Joined<0>>(ab_low, cd_low), to, T{});
  write_rows(pick<Joined<2>>(ab_low, cd_low), to + kStep, T{});
  write_rows(pick<Joined<0>>(ab_high, cd_high), to + 2 * kStep, T{});
  write_rows(pick<Joined<2>>(ab_high, cd_high), to + 3 * kStep, T{});
}

/// kLanes columns of `count` elements.
template <typename T>
void pack_columns(const T* const* columns, int64_t count, float* to) {
  int64_t k = 0;
  for (; k + kFourWords<T> <= count; k += kFourWords<T>) {
    transpose(columns, k, to + k * kTileColumns);
  }
  for (; k < count; ++k) {
    for (int column = 0; column < kLanes; ++column) {
      to[k * kTileColumns + column] = load(columns[column][k]);
    }
  }
}

/// kLanes columns of one row, or `count` if there are fewer, whose elements are neighbours in memory.
template <typename T>
[[gnu::always_inline]] inline void pack_row(const T* from, int64_t count, float* to) {
  if (count >= kLanes) {
    write(to, load_floats(from));
    return;
  }
  for (int64_t i = 0; i < kLanes; ++i) {
    to[i] = i < count ? load(from[i]) : 0.0F;
  }
}

/// Where the part of a tile begins that holds kLanes columns, of which the first is the `column`-th of the piece.
inline float* lanes_of(float* packed, int64_t column, int64_t inner) {
  return packed + column / kTileColumns * kTileColumns * inner + column % kTileColumns;
}

/// Row by row: a cache line is read once, however many tiles it belongs to.
template <typename T>
void pack_rows(const Matrix<T>& right, const Piece& piece, float* packed) {
  constexpr int64_t kRowsAhead = 8;  // the hardware follows no steps of a page and more
  const int64_t inner = piece.inner_end - piece.inner_begin, columns = piece.column_end - piece.column_begin;
  for (int64_t k = 0; k < inner; ++k) {
    const T* row = right.data + (piece.inner_begin + k) * right.row_stride + piece.column_begin;
    for (int64_t column = 0; column < columns; column += kLanes) {
      __builtin_prefetch(row + kRowsAhead * right.row_stride + column);
      pack_row(row + column, columns - column, lanes_of(packed, column, inner) + k * kTileColumns);
    }
  }
}

/// kLanes columns from `column` on, of which `count` are there.
template <typename T>
void pack_lanes(const Matrix<T>& right, const Piece& piece, int64_t column, int64_t count, float* to) {
  const T* start = right.data + piece.inner_begin * right.row_stride + column * right.column_stride;
  const int64_t inner = piece.inner_end - piece.inner_begin;
  const T* columns[kLanes];
  for (int i = 0; i < kLanes; ++i) {  // one that is not there repeats the last
    columns[i] = start + (i < count ? i : count - 1) * right.column_stride;
  }
  if (right.row_stride == 1) {
    pack_columns(columns, inner, to);
    return;
  }
  for (int64_t k = 0; k < inner; ++k) {
    for (int i = 0; i < kLanes; ++i) {
      to[k * kTileColumns + i] = load(columns[i][k * right.row_stride]);
    }
  }
}

template <typename T>
void pack_right(const Matrix<T>& right, const Piece& piece, float* packed) {
  if (right.column_stride == 1) {
    pack_rows(right, piece, packed);
    return;
  }
  const int64_t inner = piece.inner_end - piece.inner_begin, columns = piece.column_end - piece.column_begin;
  for (int64_t column = 0; column < columns; column += kLanes) {
    const int64_t left = columns - column;
    pack_lanes(right, piece, piece.column_begin + column, left < kLanes ? left : kLanes,
               lanes_of(packed, column, inner));
  }
}

}  // namespace
}  // namespace transformers::kernels
