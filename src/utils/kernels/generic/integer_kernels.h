#pragma once

#include <cstddef>

#include "utils/kernels/generic/integer_dots.h"
#include "utils/kernels/generic/integer_rows.h"
#include "utils/kernels/tables.h"

// Blocks of 16 outputs against tiles of rows whose sums are in registers. A block's weights come from memory for the
// first tile and from the cache for the others, so that few rows and many are the same loop and no weight is unpacked
// but into registers.
namespace transformers::kernels {
namespace {

constexpr int kTileRows = kLanes == 16 ? 12 : 4;
constexpr int64_t kBytesAhead = 1024;

[[gnu::always_inline]] inline Floats to_floats(Ints values) { return __builtin_convertvector(values, Floats); }

/// What a tile of rows reads and writes: `x`, `scales`, `sums` and `y` begin at its first row.
struct Tile {
  const int8_t* x;
  const float* scales;
  const int32_t* sums;
  float* y;
  int64_t in, group, out;

  Tile(const IntegerRows& rows, int64_t row, int64_t outputs, float* all)
      : x(rows.values + row * rows.in),
        scales(rows.scales + row * (rows.in / rows.group)),
        sums(rows.sums + row * (rows.in / rows.group)),
        y(all + row * outputs),
        in(rows.in),
        group(rows.group),
        out(outputs) {}

  /// Writes the outputs of a block that exist.
  [[gnu::always_inline]] void store_outputs(int row, int64_t block, const Floats (&outputs)[kVectors]) const {
    const int64_t first = block * kBlockOutputs, rest = out - first;
    float* to = y + row * out + first;
    if (rest >= kBlockOutputs) {
      __builtin_memcpy(to, outputs, sizeof outputs);
    } else {
      __builtin_memcpy(to, outputs, static_cast<size_t>(rest) * sizeof(float));
    }
  }
};

/// kBlocks neighbouring blocks: with few rows one would wait for its own sums.
template <int kRows, int kBlocks>
void int8_tile(const Tile& tile, const InterleavedInt8& weight, int64_t block) {
  const Tile t = tile;
  const int8_t* weights = weight.values + block * kBlockOutputs * t.in;
  Ints sums[kRows][kBlocks * kVectors] = {};
  for (int64_t k = 0; k < t.in; k += kInt8Inputs) {
    Int8Vector prepared[kBlocks * kVectors];
    for (int v = 0; v < kBlocks * kVectors; ++v) {
      const int8_t* from = weights + (v / kVectors * t.in + k) * kBlockOutputs + v % kVectors * kVectorBytes;
      prepared[v] = prepared_int8(read<Bytes>(from));
      __builtin_prefetch(from + kBytesAhead);
    }
#pragma GCC unroll 12
    for (int row = 0; row < kRows; ++row) {
      const int32_t x = four_bytes(t.x + row * t.in + k);
      for (int v = 0; v < kBlocks * kVectors; ++v) {
        sums[row][v] = add_int8(sums[row][v], prepared[v], x);
      }
    }
  }
  for (int row = 0; row < kRows; ++row) {
    for (int b = 0; b < kBlocks; ++b) {
      Floats outputs[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        const auto scales = read<Floats>(weight.scales + (block + b) * kBlockOutputs + v * kVectorOutputs);
        const Ints sum = sums[row][b * kVectors + v] - kInt8Offset * t.sums[row];
        outputs[v] = to_floats(sum) * (scales * t.scales[row]);
      }
      t.store_outputs(row, block + b, outputs);
    }
  }
}

/// sums += the products of int4 weights with inputs [begin, end) of a group that starts at input `first`.
template <int kRows, typename Sums>
[[gnu::always_inline]] inline void add_inputs(const Tile& t, const uint8_t* weights, int64_t first, int64_t begin,
                                              int64_t end, Sums (&sums)[kRows][kVectors]) {
  for (int64_t k = begin; k < end; k += kInt4Inputs) {
    Bytes low[kVectors], high[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const uint8_t* from = weights + k * (kBlockOutputs / 2) + v * kVectorBytes;
      const auto both = read<Shorts>(from);
      low[v] = reinterpret_cast<Bytes>(both & 0x0f0f);
      high[v] = reinterpret_cast<Bytes>((both >> 4) & 0x0f0f);
      __builtin_prefetch(from + kBytesAhead);
    }
#pragma GCC unroll 12
    for (int row = 0; row < kRows; ++row) {
      const int8_t* x = t.x + row * t.in + first + k;
      for (int v = 0; v < kVectors; ++v) {
        sums[row][v] = add_nibbles(sums[row][v], low[v], four_bytes(x));
        sums[row][v] = add_nibbles(sums[row][v], high[v], four_bytes(x + 4));
      }
    }
  }
}

template <int kRows>
[[gnu::always_inline]] inline void add_group(const Tile& t, const uint8_t* weights, int64_t first,
                                             Ints (&sums)[kRows][kVectors]) {
  if constexpr (kNibbleInputs == 0) {
    add_inputs<kRows>(t, weights, first, 0, t.group, sums);
  } else {
    for (int64_t begin = 0; begin < t.group; begin += kNibbleInputs) {
      NibbleSums parts[kRows][kVectors] = {};
      const int64_t end = t.group - begin < kNibbleInputs ? t.group : begin + kNibbleInputs;
      add_inputs<kRows>(t, weights, first, begin, end, parts);
      for (int row = 0; row < kRows; ++row) {
        for (int v = 0; v < kVectors; ++v) {
          sums[row][v] += total_of(parts[row][v]);
        }
      }
    }
  }
}

template <int kRows>
void int4_tile(const Tile& tile, const InterleavedInt4& weight, int64_t block) {
  const Tile t = tile;
  const int64_t groups = t.in / t.group;
  const uint8_t* weights = weight.values + block * kBlockOutputs / 2 * t.in;
  Floats outputs[kRows][kVectors] = {};
  for (int64_t g = 0; g < groups; ++g) {
    Ints sums[kRows][kVectors] = {};
    add_group<kRows>(t, weights + g * t.group * (kBlockOutputs / 2), g * t.group, sums);
    for (int v = 0; v < kVectors; ++v) {
      const int64_t at = (block * groups + g) * kBlockOutputs + v * kVectorOutputs;
      const Floats scale = load_floats(weight.scales + at);
      const Floats base = (weight.zeros == nullptr ? Floats{} : load_floats(weight.zeros + at)) - scale * 8;
      for (int row = 0; row < kRows; ++row) {
        const float x_scale = t.scales[row * groups + g];
        const auto x_sum = static_cast<float>(t.sums[row * groups + g]);
        outputs[row][v] += (scale * to_floats(sums[row][v]) + base * x_sum) * x_scale;
      }
    }
  }
  for (int row = 0; row < kRows; ++row) {
    t.store_outputs(row, block, outputs[row]);
  }
}

using Int8Tile = void (*)(const Tile& tile, const InterleavedInt8& weight, int64_t block);
using Int4Tile = void (*)(const Tile& tile, const InterleavedInt4& weight, int64_t block);

template <int... kRows>
constexpr auto tiles_by_rows(std::integer_sequence<int, kRows...>) {
  struct Tables {
    Int8Tile int8[sizeof...(kRows)], int8_pair[sizeof...(kRows)];
    Int4Tile int4[sizeof...(kRows)];
  };
  return Tables{{int8_tile<kRows + 1, 1>...}, {int8_tile<kRows + 1, 2>...}, {int4_tile<kRows + 1>...}};
}

/// [rows - 1] for 1 to kTileRows rows.
constexpr auto kTiles = tiles_by_rows(std::make_integer_sequence<int, kTileRows>());

/// Calls `multiply(tile, rows)` for tiles that divide the rows evenly.
template <typename Multiply>
[[gnu::always_inline]] inline void for_each_tile(const IntegerRows& x, int64_t out, float* y,
                                                 const Multiply& multiply) {
  const int64_t tiles = (x.rows + kTileRows - 1) / kTileRows;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t first = tile * x.rows / tiles, end = (tile + 1) * x.rows / tiles;
    multiply(Tile(x, first, out, y), end - first);
  }
}

inline void int8_blocks(const IntegerRows& x, const InterleavedInt8& weight, int64_t begin, int64_t end, float* y) {
  constexpr int64_t kStep = kVectors == 1 ? 2 : 1;  // as many as there are registers for
  for (int64_t block = begin; block < end; block += kStep) {
    for_each_tile(x, weight.out, y, [&](const Tile& tile, int64_t rows) {
      const bool pair = kStep == 2 && block + 1 < end;
      (pair ? kTiles.int8_pair : kTiles.int8)[rows - 1](tile, weight, block);
    });
  }
}

inline void int4_blocks(const IntegerRows& x, const InterleavedInt4& weight, int64_t begin, int64_t end, float* y) {
  for (int64_t block = begin; block < end; ++block) {
    for_each_tile(x, weight.out, y,
                  [&](const Tile& tile, int64_t rows) { kTiles.int4[rows - 1](tile, weight, block); });
  }
}

constexpr IntegerKernels kIntegerKernels{.round_int8 = round_int8,
                                         .round_int4 = round_int4,
                                         .quantize_rows = quantize_rows,
                                         .int8_blocks = int8_blocks,
                                         .int4_blocks = int4_blocks};

}  // namespace
}  // namespace transformers::kernels
