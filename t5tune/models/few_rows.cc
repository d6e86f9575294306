// Products of few rows on the CPU. `few_rows.py` has this compiled, and calls it.
//
// A step of decoding multiplies a few rows by every kernel of the decoder, and attends from
// each row to its keys and values: it takes as long as these take to read. Here they are
// read once, in the order in which they lie in memory, and the sums stay in registers.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "sharing.h"
#include "vectors.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using namespace t5tune;
using Floats = ffi::Buffer<ffi::F32>;
using FloatsOut = ffi::ResultBuffer<ffi::F32>;
using Integer = ffi::Buffer<ffi::S32>;

constexpr int kSums = kLanes == 16 ? 32 : kLanes == 8 ? 8 : 16;  // registers that hold sums

// Rows of the right side that are asked for ahead, by the nearest cache and by the next.
constexpr int kNear = 8, kFar = 96;
constexpr int kCopied = 8;      // blocks that are laid out together
constexpr int64_t kChunk = 32;  // queries whose scores are made together

// A product of some rows: out (rows, columns) = left (rows, depth) x right (depth, columns).
struct Product {
  const float* left;   // its rows are `left_stride` apart, and so on
  const float* right;
  float* out;
  int64_t depth, left_stride, right_stride, out_stride;

  void NextColumns(int64_t count) {
    right += count;
    out += count;
  }
};

template <int rows, int vectors>
void Tile(Product p) {
  Vector sums[rows][vectors] = {};
  for (int64_t k = 0; k < p.depth; ++k, p.right += p.right_stride) {
    Vector right[vectors];
#pragma GCC unroll 32
    for (int v = 0; v < vectors; ++v) {
      const float* from = p.right + v * kLanes;
      __builtin_prefetch(from + kNear * p.right_stride);
      __builtin_prefetch(from + kFar * p.right_stride, 0, 1);
      right[v] = Load(from);
    }
#pragma GCC unroll 32
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 32
      for (int v = 0; v < vectors; ++v) sums[r][v] += p.left[r * p.left_stride + k] * right[v];
    }
  }
  for (int r = 0; r < rows; ++r) {
    std::memcpy(p.out + r * p.out_stride, sums[r], sizeof sums[r]);
  }
}

// Multiplies as many of the columns as whole tiles take, and returns how many are left.
template <int rows, int vectors>
int64_t Tiles(Product& p, int64_t columns) {
  constexpr int wide = vectors * kLanes;
  for (; columns >= wide; columns -= wide, p.NextColumns(wide)) Tile<rows, vectors>(p);
  return columns;
}

template <int rows>
void Rows(Product p, int64_t columns) {
  constexpr int most = std::max(kSums / rows, 1);
  columns = Tiles<rows, most>(p, columns);
  columns = Tiles<rows, std::min(most, 4)>(p, columns);
  columns = Tiles<rows, 1>(p, columns);
  for (; columns > 0; --columns, p.NextColumns(1)) {
    for (int r = 0; r < rows; ++r) {
      float sum = 0;
      for (int64_t k = 0; k < p.depth; ++k) {
        sum += p.left[r * p.left_stride + k] * p.right[k * p.right_stride];
      }
      p.out[r * p.out_stride] = sum;
    }
  }
}

void Multiply(Product p, int64_t rows, int64_t columns) {
  auto take = [&](int64_t count, void (*multiply)(Product, int64_t)) {
    for (; rows >= count; rows -= count) {
      multiply(p, columns);
      p.left += count * p.left_stride;
      p.out += count * p.out_stride;
    }
  };
  take(8, Rows<8>);
  take(4, Rows<4>);
  take(2, Rows<2>);
  take(1, Rows<1>);
}

// Lays kernels (layers, depth, columns) out as (layers, blocks, depth, columns / blocks).
ffi::Error LayOut(ffi::ThreadPool pool, Floats kernels, FloatsOut out) {
  auto made = out->dimensions();
  int64_t blocks = made[1], depth = made[2], wide = made[3];
  int64_t groups = (blocks + kCopied - 1) / kCopied;
  const float* all = kernels.typed_data();
  float* to = out->typed_data();
  Share(pool, made[0] * groups, [=](int64_t unit) {
    int64_t layer = unit / groups, first = unit % groups * kCopied;
    int64_t last = std::min(first + kCopied, blocks);
    for (int64_t k = 0; k < depth; ++k) {  // what is read lies together
      const float* row = all + (layer * depth + k) * blocks * wide;
      for (int64_t block = first; block < last; ++block) {
        std::memcpy(to + ((layer * blocks + block) * depth + k) * wide, row + block * wide,
                    wide * sizeof(float));
      }
    }
  });
  return ffi::Error::Success();
}

// x (rows, depth) times the kernel of a layer, as `LayOut` has it.
ffi::Error Blocks(ffi::ThreadPool pool, Floats x, Floats kernels, FloatsOut out,
                  int64_t layer) {
  int64_t rows = x.dimensions()[0], depth = x.dimensions()[1];
  int64_t blocks = kernels.dimensions()[1], wide = kernels.dimensions()[3];
  const float* kernel = kernels.typed_data() + layer * blocks * depth * wide;
  Product all{x.typed_data(), kernel, out->typed_data(), depth, depth, wide, blocks * wide};
  Share(pool, blocks, [=](int64_t block) {
    Product p = all;
    p.right += block * depth * wide;
    p.out += block * wide;
    Multiply(p, rows, wide);
  });
  return ffi::Error::Success();
}

// Strides of an array whose axes of size 1 stand for the others' size.
std::vector<int64_t> BroadcastStrides(ffi::Span<const int64_t> sizes) {
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  for (size_t i = sizes.size(); i-- > 0; stride *= sizes[i]) {
    strides[i] = sizes[i] == 1 ? 0 : stride;
  }
  return strides;
}

// Adds a bias to a row of scores; returns the largest of the sums.
float AddBias(float* scores, const float* bias, int64_t stride, int64_t count) {
  Vector most = Vector{} - std::numeric_limits<float>::infinity();
  int64_t i = 0;
  for (; stride == 1 && i + kLanes <= count; i += kLanes) {
    Vector sums = Load(scores + i) + Load(bias + i);
    Store(sums, scores + i);
    most = sums > most ? sums : most;
  }
  float largest = Largest(most);
  for (; i < count; ++i) {
    scores[i] += bias[i * stride];
    largest = std::max(largest, scores[i]);
  }
  return largest;
}

// Makes weights exp(scores - largest) of a row of scores, 0 behind them; returns their sum.
float MakeWeights(float* scores, float largest, int64_t count, int64_t padded) {
  std::fill(scores + count, scores + padded, -std::numeric_limits<float>::infinity());
  Vector sum{};
  for (int64_t i = 0; i < padded; i += kLanes) {
    Vector weights = Exp(Load(scores + i) - largest);
    Store(weights, scores + i);
    sum += weights;
  }
  return Sum(sum);
}

// Attends from query (b, h, n, k) to the first `used` of key (b, h, k, s) and value
// (b, h, s, k), with a bias that broadcasts to (b, h, n, s).
ffi::Error Attend(ffi::ThreadPool pool, Floats query, Floats key, Floats value, Floats bias,
                  Integer used, FloatsOut out) {
  auto q = query.dimensions();
  int64_t heads = q[1], all_rows = q[2], head_dim = q[3], all_keys = key.dimensions()[3];
  int64_t count = std::clamp<int64_t>(*used.typed_data(), 1, all_keys);
  int64_t padded = (count + kLanes - 1) / kLanes * kLanes;
  auto strides = BroadcastStrides(bias.dimensions());
  const float *queries = query.typed_data(), *keys = key.typed_data();
  const float *values = value.typed_data(), *biases = bias.typed_data();
  float* mixed = out->typed_data();
  int64_t chunks = (all_rows + kChunk - 1) / kChunk;
  Share(pool, q[0] * heads * chunks, [=](int64_t unit) {
    int64_t i = unit / chunks, first = unit % chunks * kChunk;
    int64_t rows = std::min(kChunk, all_rows - first);
    thread_local std::vector<float> scores;
    scores.resize(kChunk * padded);
    const float* from = queries + (i * all_rows + first) * head_dim;
    Product p{from,     keys + i * head_dim * all_keys, scores.data(), head_dim,
              head_dim, all_keys,                       padded};
    Multiply(p, rows, count);
    const float* bias_here = biases + i / heads * strides[0] + i % heads * strides[1];
    float sums[kChunk];
    for (int64_t r = 0; r < rows; ++r) {
      float* row = scores.data() + r * padded;
      float largest =
          AddBias(row, bias_here + (first + r) * strides[2], strides[3], count);
      sums[r] = MakeWeights(row, largest, count, padded);
    }
    float* to = mixed + (i * all_rows + first) * head_dim;
    p = {scores.data(), values + i * all_keys * head_dim, to, count, padded, head_dim,
         head_dim};
    Multiply(p, rows, head_dim);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t k = 0; k < head_dim; ++k) to[r * head_dim + k] /= sums[r];
    }
  });
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(few_rows_lay_out, LayOut,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(few_rows_blocks, Blocks,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Ret<Floats>()
                                  .Attr<int64_t>("layer"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(few_rows_attend, Attend,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Integer>()
                                  .Ret<Floats>());
