// Products of matrices that lie in a core's caches.

#ifndef T5TUNE_MODELS_VECTOR_PRODUCTS_H_
#define T5TUNE_MODELS_VECTOR_PRODUCTS_H_

#include <cstdint>

#include "vectors.h"

namespace t5tune {

// Of a tile of sums: its rows, and the vectors of a row.
constexpr int kRows = kRegisters == 32 ? 8 : 4, kWide = kRegisters == 32 ? 4 : 2;

// A product of matrices: out (rows, columns) = left x right, or is added to. Columns come in
// whole vectors.
struct Product {
  const float* left;  // of row and depth, each so far apart
  int64_t by_row, by_depth;
  const float* right;
  int64_t right_stride;
  float* out;
  int64_t out_stride, depth;
  bool add = false;
};

template <int rows, int vectors>
void Tile(const Product& p, const float* left, const float* right, float* out) {
  Vector sums[rows][vectors] = {};
  for (int64_t k = 0; k < p.depth; ++k, left += p.by_depth, right += p.right_stride) {
    Vector wide[vectors];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) wide[v] = Load(right + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sums[r][v] += left[r * p.by_row] * wide[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r, out += p.out_stride) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      float* to = out + v * kLanes;
      Store(p.add ? sums[r][v] + Load(to) : sums[r][v], to);
    }
  }
}

template <int vectors>
void Columns(const Product& p, int64_t rows, int64_t from) {
  const float *left = p.left, *right = p.right + from;
  float* out = p.out + from;
  for (; rows >= kRows; rows -= kRows, left += kRows * p.by_row, out += kRows * p.out_stride) {
    Tile<kRows, vectors>(p, left, right, out);
  }
  for (; rows > 0; --rows, left += p.by_row, out += p.out_stride) {
    Tile<1, vectors>(p, left, right, out);
  }
}

inline void Multiply(const Product& p, int64_t rows, int64_t columns) {
  int64_t from = 0;
  for (; from + kWide * kLanes <= columns; from += kWide * kLanes) Columns<kWide>(p, rows, from);
  for (; from < columns; from += kLanes) Columns<1>(p, rows, from);
}

}  // namespace t5tune

#endif  // T5TUNE_MODELS_VECTOR_PRODUCTS_H_
