// Activations: the value and, if requested, the derivative.
#pragma once

#include "lanes.h"

// In the order of ACTIVATIONS in lowering.py. kOwn is the member's own, passed with each call; kNone
// is a stage without an activation.
enum Activation {
  kTanh, kSigmoid, kRelu, kGelu, kSilu, kLeakyRelu, kSine, kIdentity, kActivations,
  kOwn = kActivations, kNone
};

// Sine and cosine: reduction by multiples of pi / 2 in three parts, then the polynomials of Cephes.
// Arguments so large that the reduction would lose digits take the library's functions.
__attribute__((noinline)) inline F sine(F x, F& cosine) {
  constexpr float s[] = {-1.6666654611e-1f, 8.3321608736e-3f, -1.9515295891e-4f};
  constexpr float c[] = {4.166664568298827e-2f, -1.388731625493765e-3f, 2.443315711809948e-5f};
  const F shifted = x * 0.636619772f + 12582912.f;  // 1.5 * 2^23 rounds to an integer
  const F n = shifted - 12582912.f;
  const F r = ((x - n * 1.5703125f) - n * 4.83751297e-4f) - n * 7.54978995e-8f;
  const F z = r * r;
  const F odd = r + r * z * polynomial(z, s), even = 1.f - 0.5f * z + z * z * polynomial(z, c);
  const I quadrant = bits(shifted);
  const I swapped = (quadrant & 1) != 0;
  const F sin = swapped ? even : odd, cos = swapped ? odd : even;
  F value = from_bits(bits(sin) ^ ((quadrant & 2) << 30));
  cosine = from_bits(bits(cos) ^ (((quadrant + 1) & 2) << 30));
  const I large = ~(absolute(x) < 8192.f);
  if (__builtin_expect(any(large), false))
    for (int l = 0; l < kLanes; ++l)
      if (large[l]) value[l] = __builtin_sinf(x[l]), cosine[l] = __builtin_cosf(x[l]);
  return value;
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
