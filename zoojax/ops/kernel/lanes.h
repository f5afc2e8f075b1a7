// Vectors of values (lanes), and the elementwise functions that a network needs. A lane is a member
// or, where members run one after the other, a sample. No operation here mixes lanes.
#pragma once

#include <cstdint>
#include <cstring>

// The widest vectors of the CPU, and the number of its vector registers.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kRegisters = 32;
#elif defined(__AVX__)
constexpr int kLanes = 8, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kRegisters = 32;
#else
constexpr int kLanes = 4, kRegisters = 16;
#endif

typedef float F __attribute__((vector_size(4 * kLanes)));
typedef int32_t I __attribute__((vector_size(4 * kLanes)));
typedef uint32_t U __attribute__((vector_size(4 * kLanes)));

inline F splat(float x) { return F{} + x; }
inline I bits(F x) { I r; std::memcpy(&r, &x, sizeof r); return r; }
inline F from_bits(I x) { F r; std::memcpy(&r, &x, sizeof r); return r; }
inline I is_nan(F x) { return x != x; }
inline bool any(I mask) {
  uint64_t words[kLanes / 2], found = 0;
  std::memcpy(words, &mask, sizeof words);
  for (uint64_t word : words) found |= word;
  return found != 0;
}
inline F absolute(F x) { return from_bits(bits(x) & 0x7fffffff); }
inline F sqrt(F x) {
  for (int l = 0; l < kLanes; ++l) x[l] = __builtin_sqrtf(x[l]);
  return x;
}

// Coefficients in ascending order, starting with the constant term.
template <int N>
inline F polynomial(F x, const float (&c)[N]) {
  F r = splat(c[N - 1]);
#pragma GCC unroll 16
  for (int i = N - 2; i >= 0; --i) r = r * x + c[i];
  return r;
}

// The polynomials of exp and log are minimax fits of the relative error, computed for this file;
// the error is below 1e-8 before rounding.
inline F exp(F x) {
  constexpr float c[] = {0.49999994f, 0.166665196f, 0.0416683927f, 0.00836878084f,
                         0.00138144672f};
  x = x > 88.f ? splat(88.f) : x;  // preserves NaNs
  x = x < -87.f ? splat(-87.f) : x;
  const F shifted = x * 1.44269504f + 12582912.f;  // 1.5 * 2^23 rounds to an integer
  const F n = shifted - 12582912.f;
  const F r = (x - n * 0.693145752f) - n * 1.42860682e-6f;
  const F power = from_bits((bits(shifted) << 23) + (127 << 23));
  return (1.f + (r + r * r * polynomial(r, c))) * power;
}

// Requires x > 0.
inline F log(F x) {
  constexpr float c[] = {0.333333313f,  -0.250008196f, 0.200012267f, -0.166233569f,
                         0.142017588f,  -0.131601825f, 0.12761575f,  -0.0763449296f};
  const I exponent = (bits(x) - 0x3f3504f3) >> 23;
  const F g = from_bits(bits(x) - (exponent << 23)) - 1.f;
  const F n = __builtin_convertvector(exponent, F);
  return n * 0.693145752f + (n * 1.42860682e-6f + (g - g * g * (0.5f - g * polynomial(g, c))));
}

inline F sigmoid(F x) { return 1.f / (1.f + exp(-x)); }

// Abramowitz and Stegun 7.1.26: absolute error below 1.5e-7. exp(-x^2) is passed as well.
inline F erf(F x, F gauss) {
  constexpr float c[] = {0.254829592f, -0.284496736f, 1.421413741f, -1.453152027f, 1.061405429f};
  const F t = 1.f / (1.f + 0.3275911f * absolute(x));
  const F r = 1.f - t * polynomial(t, c) * gauss;
  return x < 0.f ? -r : r;
}

// Giles, "Approximating the erfinv function", 2010, single precision.
inline F erf_inv(F x) {
  constexpr float centre[] = {1.50140941f,     0.246640727f,    -0.00417768164f,
                              -0.00125372503f, 0.000218580870f, -4.39150654e-06f,
                              -3.5233877e-06f, 3.43273939e-07f, 2.81022636e-08f};
  constexpr float tail[] = {2.83297682f,    1.00167406f,      0.00943887047f,
                            -0.0076224613f, 0.00573950773f,   -0.00367342844f,
                            0.00134934322f, 0.000100950558f,  -0.000200214257f};
  const F w = -log(1.f - x * x);
  F r = polynomial(w - 2.5f, centre);
  const I far = w >= 5.f;
  if (__builtin_expect(any(far), false)) r = far ? polynomial(sqrt(w) - 3.f, tail) : r;
  return r * x;
}

// Counter-based noise, as in zoojax.ops.noise: Threefry-2x32 with 13 rounds.
struct Noise {
  U key0, key1;
  U block;  // second counter word: step and layer

  Noise of(uint32_t layer) const { return {key0, key1, block + layer}; }

  // The counter is one number, or one per lane.
  template <class Counter>
  void words(Counter counter, U& x0, U& x1) const {
    constexpr int rotations[8] = {13, 15, 26, 6, 17, 29, 16, 24};
    const U keys[3] = {key0, key1, key0 ^ key1 ^ 0x1BD11BDAu};
    x0 = keys[0] + counter;
    x1 = keys[1] + block;
#pragma GCC unroll 13
    for (int i = 0; i < 13; ++i) {
      const int r = rotations[i % 8];
      x0 += x1;
      x1 = ((x1 << r) | (x1 >> (32 - r))) ^ x0;
      if (i % 4 == 3) {
        x0 += keys[(i / 4 + 1) % 3];
        x1 += keys[(i / 4 + 2) % 3] + uint32_t(i / 4 + 1);
      }
    }
  }
};

// 23 bits select one of 2^23 cells of (-1, 1); the value is its center.
inline F centred_uniform(U word) {
  return __builtin_convertvector(word >> 9, F) * 0x1p-22f - (1.f - 0x1p-23f);
}
inline F normal(U word) { return 1.41421354f * erf_inv(centred_uniform(word)); }
