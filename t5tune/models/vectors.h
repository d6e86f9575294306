// Vectors of float32, as wide as the machine's registers, and memory for them.

#ifndef T5TUNE_MODELS_VECTORS_H_
#define T5TUNE_MODELS_VECTORS_H_

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace t5tune {

// Floats in a register, and how many registers are counted on.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kRegisters = 32;
#elif defined(__AVX__)
constexpr int kLanes = 8, kRegisters = 16;
#else
constexpr int kLanes = 4, kRegisters = 16;
#endif

using Vector = float __attribute__((vector_size(4 * kLanes)));
using Integers = int32_t __attribute__((vector_size(4 * kLanes)));

inline Vector Load(const float* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

inline void Store(Vector vector, float* to) { std::memcpy(to, &vector, sizeof vector); }

inline float Sum(Vector vector) {
  float sum = 0;
  for (int i = 0; i < kLanes; ++i) sum += vector[i];
  return sum;
}

inline float Largest(Vector vector) {
  float largest = vector[0];
  for (int i = 1; i < kLanes; ++i) largest = vector[i] > largest ? vector[i] : largest;
  return largest;
}

// exp of what is not positive, by Cephes' expf; 0 where that has no normal number.
inline Vector Exp(Vector x) {
  constexpr float kLeast = -87.33654f, kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  Integers power = __builtin_convertvector(x * kLog2E - 0.5f, Integers);
  Vector whole = __builtin_convertvector(power, Vector);
  Vector rest = x - whole * kLn2High - whole * kLn2Low;
  Vector sum = 1.9875691500e-4f * rest + 1.3981999507e-3f;
  for (float c : {8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f}) {
    sum = sum * rest + c;
  }
  sum = sum * rest * rest + rest + 1.0f;
  Integers bits = (Integers)sum + (power << 23);
  return x < kLeast ? Vector{} : (Vector)bits;
}

// Memory of a thread, kept between calls; `which` of several. It is not cleared.
template <int which>
float* Kept(int64_t count) {
  struct Free {
    void operator()(float* memory) { std::free(memory); }
  };
  constexpr int64_t kPage = 4096;
  thread_local std::unique_ptr<float, Free> memory;
  thread_local int64_t held = 0;
  if (held < count) {
    memory.reset();
    int64_t bytes = (count * sizeof(float) + kPage - 1) / kPage * kPage;
    memory.reset(static_cast<float*>(std::aligned_alloc(kPage, bytes)));
    if (memory == nullptr) throw std::bad_alloc();  // XLA reports it, or the process ends
    held = count;
  }
  return memory.get();
}

}  // namespace t5tune

#endif  // T5TUNE_MODELS_VECTORS_H_
