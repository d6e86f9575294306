// Products of few rows on the CPU. `few_rows.py` has this compiled, and calls it.
//
// A step of decoding multiplies a few rows by every kernel of the decoder, and each row by
// its keys and values: it takes as long as these take to read. Here they are read once,
// in the order in which they lie in memory, and the sums stay in registers.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>

#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using Floats = ffi::Buffer<ffi::F32>;
using FloatsOut = ffi::ResultBuffer<ffi::F32>;

// Floats in a register, and registers that hold sums.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kSums = 32;
#elif defined(__AVX__)
constexpr int kLanes = 8, kSums = 8;
#else
constexpr int kLanes = 4, kSums = 16;
#endif

constexpr int kAhead = 16;  // rows of the right side that are asked for ahead
constexpr int kParts = 4;   // of the work, for each thread

using Vector = float __attribute__((vector_size(4 * kLanes)));

Vector Load(const float* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

// A product of some rows: out (rows, columns) = left (rows, depth) x right (depth, columns).
struct Product {
  const float* left;
  const float* right;  // its rows are `right_stride` apart
  float* out;          // its rows are `out_stride` apart
  int64_t depth, right_stride, out_stride;

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
      __builtin_prefetch(p.right + kAhead * p.right_stride + v * kLanes);
      right[v] = Load(p.right + v * kLanes);
    }
#pragma GCC unroll 32
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 32
      for (int v = 0; v < vectors; ++v) sums[r][v] += p.left[r * p.depth + k] * right[v];
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
        sum += p.left[r * p.depth + k] * p.right[k * p.right_stride];
      }
      p.out[r * p.out_stride] = sum;
    }
  }
}

void Multiply(Product p, int64_t rows, int64_t columns) {
  auto take = [&](int64_t count, void (*multiply)(Product, int64_t)) {
    for (; rows >= count; rows -= count) {
      multiply(p, columns);
      p.left += count * p.depth;
      p.out += count * p.out_stride;
    }
  };
  take(8, Rows<8>);
  take(4, Rows<4>);
  take(2, Rows<2>);
  take(1, Rows<1>);
}

struct Progress {
  std::atomic<int64_t> next{0}, done{0};
};

// Does work 0, ..., count - 1 in parts, with the threads of the pool that are free. It waits
// for parts that others have begun alone: all threads may be in here, and none free.
template <typename Work>
void Share(ffi::ThreadPool& pool, int64_t count, Work work) {
  int64_t parts = std::min(count, pool.num_threads() * kParts);
  auto progress = std::make_shared<Progress>();
  auto run = [=] {
    for (int64_t part; (part = progress->next.fetch_add(1)) < parts;) {
      int64_t end = (part + 1) * count / parts;
      for (int64_t i = part * count / parts; i < end; ++i) work(i);
      progress->done.fetch_add(1);
    }
  };
  for (int64_t i = 1; i < std::min(pool.num_threads(), parts); ++i) {
    pool.Schedule(decltype(run)(run));
  }
  run();
  while (progress->done.load() < parts) std::this_thread::yield();
}

// x (rows, depth) times blocks of columns (blocks, depth, columns / blocks).
ffi::Error Blocks(ffi::ThreadPool pool, Floats x, Floats kernel, FloatsOut out) {
  int64_t rows = x.dimensions()[0], depth = x.dimensions()[1];
  int64_t blocks = kernel.dimensions()[0], wide = kernel.dimensions()[2];
  Product all{x.typed_data(), kernel.typed_data(), out->typed_data(), depth, wide,
              blocks * wide};
  Share(pool, blocks, [=](int64_t block) {
    Product p = all;
    p.right += block * depth * wide;
    p.out += block * wide;
    Multiply(p, rows, wide);
  });
  return ffi::Error::Success();
}

// (..., rows, depth) times (..., depth, columns).
ffi::Error Batch(ffi::ThreadPool pool, Floats x, Floats y, FloatsOut out) {
  auto left = x.dimensions();
  int64_t rows = left[left.size() - 2], depth = left.back();
  int64_t columns = y.dimensions().back(), batch = 1;
  for (size_t i = 0; i + 2 < left.size(); ++i) batch *= left[i];
  Product all{x.typed_data(), y.typed_data(), out->typed_data(), depth, columns, columns};
  Share(pool, batch, [=](int64_t i) {
    Product p = all;
    p.left += i * rows * depth;
    p.right += i * depth * columns;
    p.out += i * rows * columns;
    Multiply(p, rows, columns);
  });
  return ffi::Error::Success();
}

auto Binding() {
  return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Ret<Floats>();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(few_rows_blocks, Blocks, Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(few_rows_batch, Batch, Binding());
