// Attention of training on the CPU, and its gradients. `cpu_attention.py` has this compiled,
// and calls it.
//
// A unit of work is a head of an example. Its scores are made for a few queries at a time, and
// never leave the nearest caches: the backward pass makes them again. All is added up in
// float32, whatever the dtype of queries, keys and values.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "sharing.h"
#include "vector_products.h"
#include "vectors.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using namespace t5tune;
using Floats = ffi::Buffer<ffi::F32>;
using FloatsOut = ffi::ResultBuffer<ffi::F32>;
using Mask = ffi::Buffer<ffi::PRED>;

constexpr int64_t kChunk = 32;    // queries whose scores are made together
constexpr float kMasked = -1e10;  // as in attention.py

float Widen(float x) { return x; }
void Narrow(float x, float& to) { to = x; }

struct BFloat16 {
  uint16_t bits;
};

float Widen(BFloat16 x) {
  uint32_t bits = uint32_t{x.bits} << 16;
  float made;
  std::memcpy(&made, &bits, sizeof made);
  return made;
}

void Narrow(float x, BFloat16& to) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  to.bits = x == x ? rounded : 0x7fc0;
}

int64_t Padded(int64_t count) { return (count + kLanes - 1) / kLanes * kLanes; }

// One head of one example, of an array (b, positions, h, k).
template <typename T>
struct Head {
  T* data;
  int64_t positions, dim, stride;

  Head Rows(int64_t first) const { return {data + first * stride, positions - first, dim, stride}; }
};

template <typename T>
Head<T> HeadOf(T* data, ffi::Span<const int64_t> size, int64_t example, int64_t head) {
  int64_t stride = size[2] * size[3];
  return {data + example * size[1] * stride + head * size[3], size[1], size[3], stride};
}

// Copies the first rows of a head, each padded with zeros to whole vectors.
template <typename T>
void Copy(Head<const T> head, int64_t rows, float* to) {
  int64_t wide = Padded(head.dim);
  for (int64_t i = 0; i < rows; ++i, to += wide) {
    const T* from = head.data + i * head.stride;
    for (int64_t k = 0; k < head.dim; ++k) to[k] = Widen(from[k]);
    std::fill(to + head.dim, to + wide, 0.0f);
  }
}

// Copies a head as (k, positions), padded with zeros to whole vectors.
template <typename T>
void CopyTurned(Head<const T> head, float* to) {
  int64_t wide = Padded(head.positions);
  for (int64_t first = 0; first < wide; first += kLanes) {
    int64_t count = std::min<int64_t>(kLanes, head.positions - first);
    for (int64_t k = 0; k < head.dim; ++k) {
      float* row = to + k * wide + first;
      for (int64_t i = 0; i < kLanes; ++i) {
        row[i] = i < count ? Widen(head.data[(first + i) * head.stride + k]) : 0.0f;
      }
    }
  }
}

// Writes rows of whole vectors.
template <typename T>
void Write(const float* from, int64_t rows, Head<T> head) {
  for (int64_t i = 0; i < rows; ++i, from += Padded(head.dim)) {
    for (int64_t k = 0; k < head.dim; ++k) Narrow(from[k], head.data[i * head.stride + k]);
  }
}

// What of a row of scores the bias adds to, and the mask leaves.
struct Seen {
  const float* bias;  // or none
  const bool* mask;
  int64_t keys;

  // Calls use(i, bias, visible) for each vector of keys; the last may have fewer.
  template <typename Use>
  void ForEach(Use use) const {
    using Bytes = uint8_t __attribute__((vector_size(kLanes)));
    for (int64_t i = 0; i < keys; i += kLanes) {
      Bytes bytes{};
      Vector added{};
      std::memcpy(&bytes, mask + i, std::min<int64_t>(kLanes, keys - i));
      if (bias != nullptr) {
        if (i + kLanes <= keys) {
          added = Load(bias + i);
        } else {
          std::memcpy(&added, bias + i, (keys - i) * sizeof(float));
        }
      }
      use(i, added, __builtin_convertvector(bytes, Integers) != 0);
    }
  }

  // Adds the bias to a row of scores and masks it; behind the keys, all of it is hidden.
  // Returns the largest.
  float Apply(float* scores) const {
    constexpr float kNone = -std::numeric_limits<float>::infinity();
    Vector largest = Vector{} + kNone;
    ForEach([&](int64_t i, Vector added, Integers visible) {
      Vector made = visible ? Load(scores + i) + added : Vector{} + kMasked;
      if (i + kLanes > keys) {
        for (int64_t lane = keys - i; lane < kLanes; ++lane) made[lane] = kNone;
      }
      largest = made > largest ? made : largest;
      Store(made, scores + i);
    });
    return Largest(largest);
  }
};

// Queries, keys, bias and mask, as forward and backward pass have them.
template <typename T>
struct Inputs {
  ffi::AnyBuffer query, key, value;
  Floats bias;  // (h, t, s), or of no element
  Mask mask;    // (b, t, s)

  int64_t Examples() const { return query.dimensions()[0]; }
  int64_t Heads() const { return query.dimensions()[2]; }
  int64_t Keys() const { return key.dimensions()[1]; }

  Head<const T> Of(const ffi::AnyBuffer& from, int64_t example, int64_t head) const {
    const T* data = static_cast<const T*>(from.untyped_data());
    return HeadOf(data, from.dimensions(), example, head);
  }

  Seen SeenBy(int64_t example, int64_t head, int64_t row) const {
    int64_t rows = query.dimensions()[1], keys = Keys();
    const float* added = bias.element_count() ? bias.typed_data() : nullptr;
    if (added) added += (head * rows + row) * keys;
    return {added, mask.typed_data() + (example * rows + row) * keys, keys};
  }
};

// The largest score of each query, and the sum of exp(score - largest): (2, b, h, t).
template <typename P>
struct Softmax {
  P largest, sums;

  static Softmax Of(P data, ffi::Span<const int64_t> size, int64_t example, int64_t head) {
    P first = data + (example * size[2] + head) * size[3];
    return {first, first + size[1] * size[2] * size[3]};
  }
};

template <typename T>
void AttendOne(const Inputs<T>& in, int64_t example, int64_t head, T* out, FloatsOut softmax) {
  auto query = in.Of(in.query, example, head), key = in.Of(in.key, example, head);
  auto value = in.Of(in.value, example, head);
  auto kept = Softmax<float*>::Of(softmax->typed_data(), softmax->dimensions(), example, head);
  Head<T> mixed = HeadOf(out, in.query.dimensions(), example, head);
  int64_t keys = Padded(key.positions), wide = Padded(query.dim);
  float* keys_turned = Kept<0>(query.dim * keys);
  float* values = Kept<1>(key.positions * wide);
  float* queries = Kept<2>(kChunk * wide);
  float* scores = Kept<3>(kChunk * keys);
  CopyTurned(key, keys_turned);
  Copy(value, key.positions, values);
  for (int64_t first = 0; first < query.positions; first += kChunk) {
    int64_t rows = std::min(kChunk, query.positions - first);
    Copy(query.Rows(first), rows, queries);
    Multiply({queries, wide, 1, keys_turned, keys, scores, keys, query.dim}, rows, keys);
    for (int64_t r = 0; r < rows; ++r) {
      float* row = scores + r * keys;
      float largest = in.SeenBy(example, head, first + r).Apply(row);
      Vector sum{};
      for (int64_t i = 0; i < keys; i += kLanes) {
        Vector weights = Exp(Load(row + i) - largest);
        Store(weights, row + i);
        sum += weights;
      }
      kept.largest[first + r] = largest;
      kept.sums[first + r] = Sum(sum);
    }
    Multiply({scores, keys, 1, values, wide, queries, wide, key.positions}, rows, wide);
    for (int64_t r = 0; r < rows; ++r) {
      float scale = 1 / kept.sums[first + r];
      for (int64_t k = 0; k < wide; ++k) queries[r * wide + k] *= scale;
    }
    Write(queries, rows, mixed.Rows(first));
  }
}

template <typename T>
struct Gradients {
  Floats softmax;
  ffi::AnyBuffer of_out;
  T *of_query, *of_key, *of_value;
};

// Turns a row of scores into weights, and of the weights' gradients into the scores'.
void ScoreGradients(const Seen& seen, float largest, float sum, float* scores,
                    float* gradients) {
  float scale = 1 / sum;
  Vector products{};
  seen.ForEach([&](int64_t i, Vector added, Integers visible) {
    Vector score = visible ? Load(scores + i) + added : Vector{} + kMasked;
    Vector weights = Exp(score - largest) * scale;
    if (i + kLanes > seen.keys) {
      for (int64_t lane = seen.keys - i; lane < kLanes; ++lane) weights[lane] = 0;
    }
    products += weights * Load(gradients + i);
    Store(weights, scores + i);
  });
  float mean = Sum(products);
  seen.ForEach([&](int64_t i, Vector, Integers visible) {
    Vector made = Load(scores + i) * (Load(gradients + i) - mean);
    Store(visible ? made : Vector{}, gradients + i);
  });
}

// The gradients of one head; those of the bias (t, s), if asked for, are added up.
template <typename T>
void BackOne(const Inputs<T>& in, const Gradients<T>& g, int64_t example, int64_t head,
             float* of_bias) {
  auto query = in.Of(in.query, example, head), key = in.Of(in.key, example, head);
  auto value = in.Of(in.value, example, head), of_out = in.Of(g.of_out, example, head);
  auto kept =
      Softmax<const float*>::Of(g.softmax.typed_data(), g.softmax.dimensions(), example, head);
  auto query_size = in.query.dimensions(), key_size = in.key.dimensions();
  int64_t positions = key.positions, keys = Padded(positions), wide = Padded(query.dim);
  float* keys_turned = Kept<0>(query.dim * keys);
  float* values_turned = Kept<1>(query.dim * keys);
  float* queries = Kept<2>(kChunk * wide);
  float* scores = Kept<3>(kChunk * keys);
  float* gradients = Kept<4>(kChunk * keys);
  float* of_outs = Kept<5>(kChunk * wide);
  float* of_queries = Kept<6>(kChunk * wide);
  float* all_keys = Kept<7>(positions * wide);
  float* of_keys = Kept<8>(positions * wide);
  float* of_values = Kept<9>(positions * wide);
  CopyTurned(key, keys_turned);
  CopyTurned(value, values_turned);
  Copy(key, positions, all_keys);
  std::fill(of_keys, of_keys + positions * wide, 0.0f);
  std::fill(of_values, of_values + positions * wide, 0.0f);
  for (int64_t first = 0; first < query.positions; first += kChunk) {
    int64_t rows = std::min(kChunk, query.positions - first);
    Copy(query.Rows(first), rows, queries);
    Copy(of_out.Rows(first), rows, of_outs);
    Multiply({queries, wide, 1, keys_turned, keys, scores, keys, query.dim}, rows, keys);
    Multiply({of_outs, wide, 1, values_turned, keys, gradients, keys, query.dim}, rows, keys);
    for (int64_t r = 0; r < rows; ++r) {
      float* row = gradients + r * keys;
      ScoreGradients(in.SeenBy(example, head, first + r), kept.largest[first + r],
                     kept.sums[first + r], scores + r * keys, row);
      if (of_bias) {
        float* to = of_bias + (first + r) * positions;
        for (int64_t i = 0; i < positions; ++i) to[i] += row[i];
      }
    }
    Multiply({gradients, keys, 1, all_keys, wide, of_queries, wide, positions}, rows, wide);
    Write(of_queries, rows, HeadOf(g.of_query, query_size, example, head).Rows(first));
    Multiply({scores, 1, keys, of_outs, wide, of_values, wide, rows, true}, positions, wide);
    Multiply({gradients, 1, keys, queries, wide, of_keys, wide, rows, true}, positions, wide);
  }
  Write(of_keys, positions, HeadOf(g.of_key, key_size, example, head));
  Write(of_values, positions, HeadOf(g.of_value, key_size, example, head));
}

// Calls run(T{}) with the type of an array's elements.
template <typename Run>
ffi::Error OfType(ffi::DataType type, Run run) {
  if (type == ffi::F32) {
    run(float{});
  } else if (type == ffi::BF16) {
    run(BFloat16{});
  } else {
    return ffi::Error::InvalidArgument("attention takes float32 and bfloat16");
  }
  return ffi::Error::Success();
}

// Attends from query (b, t, h, k) to key and value (b, s, h, k). Returns (b, t, h, k), and what
// the backward pass wants of the softmax.
ffi::Error Forward(ffi::ThreadPool pool, ffi::AnyBuffer query, ffi::AnyBuffer key,
                   ffi::AnyBuffer value, Floats bias, Mask mask,
                   ffi::Result<ffi::AnyBuffer> out, FloatsOut softmax) {
  return OfType(query.element_type(), [&](auto type) {
    using T = decltype(type);
    Inputs<T> in{query, key, value, bias, mask};
    T* to = static_cast<T*>(out->untyped_data());
    Share(pool, in.Examples() * in.Heads(), [=](int64_t unit) {
      AttendOne(in, unit / in.Heads(), unit % in.Heads(), to, softmax);
    });
  });
}

// The gradients of query, key and value, and, if there is place, that of the bias: its sum over
// the examples is made of sums over parts of them, of which `other_parts` (n, h, t, s) holds all
// but the first.
ffi::Error Backward(ffi::ThreadPool pool, ffi::AnyBuffer query, ffi::AnyBuffer key,
                    ffi::AnyBuffer value, Floats bias, Mask mask, Floats softmax,
                    ffi::AnyBuffer of_out, ffi::Result<ffi::AnyBuffer> of_query,
                    ffi::Result<ffi::AnyBuffer> of_key, ffi::Result<ffi::AnyBuffer> of_value,
                    FloatsOut of_bias, FloatsOut other_parts) {
  return OfType(query.element_type(), [&](auto type) {
    using T = decltype(type);
    auto data = [](ffi::Result<ffi::AnyBuffer>& to) { return static_cast<T*>(to->untyped_data()); };
    Inputs<T> in{query, key, value, bias, mask};
    Gradients<T> g{softmax, of_out, data(of_query), data(of_key), data(of_value)};
    int64_t examples = in.Examples(), heads = in.Heads(), all = of_bias->element_count();
    int64_t size = all / heads, parts = all ? other_parts->dimensions()[0] + 1 : examples;
    float *first = of_bias->typed_data(), *others = other_parts->typed_data();
    Share(pool, parts * heads, [=](int64_t unit) {
      int64_t part = unit / heads, head = unit % heads;
      float* to = size ? (part ? others + (part - 1) * all : first) + head * size : nullptr;
      std::fill(to, to + size, 0.0f);
      for (int64_t i = part * examples / parts; i < (part + 1) * examples / parts; ++i) {
        BackOne(in, g, i, head, to);
      }
    });
    if (all == 0) return;
    Share(pool, heads, [=](int64_t head) {
      for (int64_t part = 1; part < parts; ++part) {
        const float* from = others + (part - 1) * all + head * size;
        for (int64_t i = 0; i < size; ++i) first[head * size + i] += from[i];
      }
    });
  });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(cpu_attention_forward, Forward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<Floats>()
                                  .Arg<Mask>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(cpu_attention_backward, Backward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<Floats>()
                                  .Arg<Mask>()
                                  .Arg<Floats>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<Floats>()
                                  .Ret<Floats>());
