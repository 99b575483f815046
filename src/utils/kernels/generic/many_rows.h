#pragma once

#include "utils/kernels/generic/pack_right.h"

// Many rows: pieces of the right matrix are converted to float32 in a buffer of the size of the second-level cache, and
// the left matrix passes over them in tiles whose sums are in registers.
namespace transformers::kernels {
namespace {

constexpr int64_t kTileRows = kLanes == 16 ? 14 : 6;
constexpr int64_t kInnerBlock = 384;
constexpr int64_t kColumnBlock = 128;
constexpr int64_t kPanelsInBlock = 1008 / kTileRows;
constexpr int64_t kWorkspace = kInnerBlock * kColumnBlock + kPanelsInBlock * kTileRows * kColumnBlock;

/// The rows are divided evenly, so that no panel is so thin that its sums wait for each other.
struct Panels {
  int64_t rows, count;

  explicit Panels(int64_t all) : rows(all), count((all + kTileRows - 1) / kTileRows) {}
  int64_t first_row(int64_t panel) const { return panel * rows / count; }
  int64_t rows_of(int64_t panel) const { return first_row(panel + 1) - first_row(panel); }
};

inline int64_t panels(int64_t rows) { return Panels(rows).count; }

/// Panel after panel; in each, element (row, k) is at k · rows + row.
template <typename T>
void pack_left(const Matrix<T>& left, int64_t begin, int64_t end, float* packed) {
  const Panels panels(left.rows);
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t first = panels.first_row(panel), rows = panels.rows_of(panel);
    float* to = packed + first * left.columns;
    for (int64_t row = 0; row < rows; ++row) {
      const T* from = left.data + (first + row) * left.row_stride;
      for (int64_t k = 0; k < left.columns; ++k) {
        to[k * rows + row] = load(from[k * left.column_stride]);
      }
    }
  }
}

/// sums [kRows, kTileColumns], rows kColumnBlock apart: += left · right over `inner`, or = where this is the first
/// part.
template <int kRows>
void multiply_tile(const float* left, const float* right, int64_t inner, bool is_first, float* sums) {
  Floats low[kRows] = {}, high[kRows] = {};
  for (int64_t k = 0; k < inner; ++k) {
    const auto right_low = read<Floats>(right), right_high = read<Floats>(right + kLanes);
#pragma GCC unroll 14
    for (int row = 0; row < kRows; ++row) {
      low[row] += left[row] * right_low;
      high[row] += left[row] * right_high;
    }
    left += kRows;
    right += kTileColumns;
  }
#pragma GCC unroll 14
  for (int row = 0; row < kRows; ++row) {
    float* to = sums + row * kColumnBlock;
    write(to, is_first ? low[row] : low[row] + read<Floats>(to));
    write(to + kLanes, is_first ? high[row] : high[row] + read<Floats>(to + kLanes));
  }
}

using MultiplyTile = void (*)(const float* left, const float* right, int64_t inner, bool is_first, float* sums);

template <int... kRows>
constexpr auto tiles_by_rows(std::integer_sequence<int, kRows...>) {
  struct Table {
    MultiplyTile of[sizeof...(kRows)];
  };
  return Table{{multiply_tile<kRows + 1>...}};
}

/// of[rows - 1] for 1 to kTileRows rows.
constexpr auto kTiles = tiles_by_rows(std::make_integer_sequence<int, kTileRows>());

template <typename T>
void store_block(const ManyRows<T>& product, int64_t first_row, int64_t end_row, int64_t begin, int64_t end,
                 const float* sums) {
  for (int64_t row = first_row; row < end_row; ++row) {
    T* y = product.y + row * product.y_stride + begin;
    const float* from = sums + (row - first_row) * kColumnBlock;
    const T* bias = product.bias == nullptr ? nullptr : product.bias + begin;
    for (int64_t column = 0; column < end - begin; ++column) {
      store(y[column], bias == nullptr ? from[column] : from[column] + load(bias[column]));
    }
  }
}

/// At most kPanelsInBlock panels and kColumnBlock columns.
template <typename T>
void multiply_block(const ManyRows<T>& product, const Block& block, float* workspace) {
  const Panels panels(product.rows);
  const int64_t inner = product.right.rows, columns = block.column_end - block.column_begin;
  const int64_t first_row = panels.first_row(block.panel_begin);
  float* sums = workspace + kInnerBlock * kColumnBlock;
  int64_t k = 0;
  do {  // once even without inner elements, to set the sums
    const int64_t part = inner - k < kInnerBlock ? inner - k : kInnerBlock;
    pack_right(product.right, {k, k + part, block.column_begin, block.column_end}, workspace);
    for (int64_t panel = block.panel_begin; panel < block.panel_end; ++panel) {
      const int64_t row = panels.first_row(panel), rows = panels.rows_of(panel);
      const float* left = product.left + row * inner + k * rows;
      for (int64_t column = 0; column < columns; column += kTileColumns) {
        kTiles.of[rows - 1](left, workspace + column * part, part, k == 0,
                            sums + (row - first_row) * kColumnBlock + column);
      }
    }
    k += kInnerBlock;
  } while (k < inner);
  store_block(product, first_row, panels.first_row(block.panel_end), block.column_begin, block.column_end, sums);
}

template <typename T>
void many_rows(const ManyRows<T>& product, const Block& block, float* workspace) {
  for (int64_t panel = block.panel_begin; panel < block.panel_end; panel += kPanelsInBlock) {
    const int64_t panel_end = block.panel_end - panel < kPanelsInBlock ? block.panel_end : panel + kPanelsInBlock;
    for (int64_t column = block.column_begin; column < block.column_end; column += kColumnBlock) {
      const int64_t column_end = block.column_end - column < kColumnBlock ? block.column_end : column + kColumnBlock;
      multiply_block(product, {panel, panel_end, column, column_end}, workspace);
    }
  }
}

}  // namespace
}  // namespace transformers::kernels
