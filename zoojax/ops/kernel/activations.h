// Activations: the value and, if requested, the derivative.
#pragma once

#include "lanes.h"

// In the order of ACTIVATIONS in lowering.py. kOwn is the member's own, passed with each call; kNone
// is a stage without an activation.
enum Activation {
  kTanh, kSigmoid, kRelu, kGelu, kSilu, kLeakyRelu, kSine, kIdentity, kActivations,
  kOwn = kActivations, kNone
};

// Sine and cosine of |x| < kSineLimit: reduction by multiples of pi in three parts, of which the
// first two have few bits, then minimax polynomials on [-pi / 2, pi / 2], computed for this file. The
// absolute error is below 2e-7.
constexpr float kSineLimit = 8192.f;
inline __attribute__((always_inline)) F near_sine(F x, F& cosine) {
  constexpr float s[] = {-0.16666657f, 0.008333017f, -0.00019806589f, 2.599994e-06f};
  constexpr float c[] = {0.04166544f, -0.0013865213f, 2.3378832e-05f};
  const F shifted = x * 0.318309886f + 12582912.f;  // 1.5 * 2^23 rounds to an integer
  const F n = shifted - 12582912.f;
  const F r = ((x - n * 3.140625f) - n * 9.67502593994140625e-4f) - n * 1.509957990978376e-7f;
  const F z = r * r;
  const I sign = bits(shifted) << 31;
  cosine = from_bits(bits((1.f - 0.5f * z) + z * z * polynomial(z, c)) ^ sign);
  return from_bits(bits(r + r * z * polynomial(z, s)) ^ sign);
}

inline I is_far(F x) { return ~(absolute(x) < kSineLimit); }

// Sine and cosine. Arguments so large that the reduction would lose digits take the library's
// functions.
inline F sine(F x, F& cosine) {
  F value = near_sine(x, cosine);
  const I far = is_far(x);
  if (__builtin_expect(any(far), false))
    for (int l = 0; l < kLanes; ++l)
      if (far[l]) value[l] = __builtin_sinf(x[l]), cosine[l] = __builtin_cosf(x[l]);
  return value;
}

// Replaces y by sin(omega y) and, with Slope, writes the slopes.
template <bool Slope>
void sines(float omega, int size, F* y, F* slope) {
  I far = I{};
  for (int o = 0; o < size; ++o) far |= is_far(omega * y[o]);
  F cosine;
  if (__builtin_expect(any(far), false)) {
    for (int o = 0; o < size; ++o) {
      y[o] = sine(omega * y[o], cosine);
      if (Slope) slope[o] = omega * cosine;
    }
    return;
  }
  for (int o = 0; o < size; ++o) {
    y[o] = near_sine(omega * y[o], cosine);
    if (Slope) slope[o] = omega * cosine;
  }
}

//   slope_below: slope of kLeakyRelu for x < 0. omega: frequency of kSine.
template <bool Slope>
inline F activate(int activation, float slope_below, float omega, F x, F& slope) {
  switch (activation) {
    case kTanh: {
      // 1 - tanh^2 would round the slope of a saturated unit to zero.
      const F e = exp(-2.f * absolute(x)), r = 1.f / (1.f + e), y = (1.f - e) * r;
      if (Slope) slope = 4.f * e * r * r;
      return x < 0.f ? -y : y;
    }
    case kSigmoid: {
      const F y = sigmoid(x);
      if (Slope) slope = y * (1.f - y);
      return y;
    }
    case kRelu: {
      if (Slope) slope = x > 0.f ? splat(1.f) : splat(0.f);
      return x < 0.f ? splat(0.f) : x;  // preserves NaNs
    }
    case kGelu: {
      const F gauss = exp(-0.5f * x * x);
      const F share = 0.5f + 0.5f * erf(x * 0.707106781f, gauss);
      if (Slope) slope = share + x * 0.398942280f * gauss;
      return x * share;
    }
    case kSilu: {
      const F s = sigmoid(x);
      if (Slope) slope = s * (1.f + x * (1.f - s));
      return x * s;
    }
    case kLeakyRelu: {
      if (Slope) slope = x >= 0.f ? splat(1.f) : splat(slope_below);
      return x < 0.f ? slope_below * x : x;
    }
    case kSine: {
      F cosine;
      const F y = sine(omega * x, cosine);
      if (Slope) slope = omega * cosine;
      return y;
    }
    default: {
      if (Slope) slope = splat(1.f);
      return x;
    }
  }
}

// Activation of one stage.
//   Fixed: a value of Activation. Bits: its parameter, as the bits of a float.
template <int Fixed, uint32_t Bits>
struct Activator {
  static constexpr bool kAny = Fixed != kNone;
  int own;  // the member's own activation

  int id() const { return Fixed == kOwn ? own : Fixed; }

  // Whether the maximum of the values is the value of the maximum.
  bool monotone() const {
    return id() == kTanh || id() == kSigmoid || id() == kRelu || id() == kNone ||
           id() == kIdentity || (id() == kLeakyRelu && (Fixed == kOwn || parameter() >= 0.f));
  }
  // Applies the activation to all elements of y.
  template <bool Slope>
  void apply_all(int size, F* y, F* slope) const {
    if constexpr (Fixed == kSine)
      sines<Slope>(parameter(), size, y, slope);
    else
      for (int o = 0; o < size; ++o) y[o] = apply<Slope>(y[o], slope[o]);
  }
  template <bool Slope>
  F apply(F x, F& slope) const {
    if constexpr (Fixed == kNone)
      return x;
    else if constexpr (Fixed == kOwn)  // the defaults are DEFAULT_PARAMETERS in spec.py
      return activate<Slope>(own, 0.01f, 30.f, x, slope);
    else
      return activate<Slope>(Fixed, parameter(), parameter(), x, slope);
  }

 private:
  static float parameter() {
    const uint32_t from = Bits;
    float to;
    std::memcpy(&to, &from, sizeof to);
    return to;
  }
};
