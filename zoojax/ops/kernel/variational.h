// Variances and KL divergence of variational dropout, from weights w and log sigma^2.
//
// As in zoojax/sparsifiers/variational_dropout.py: log alpha = log(sigma^2 / w^2) is clipped to
// [-c, c], and the variance is alpha w^2. Computed here, the variances of a member stay in the cache.
#pragma once

#include "pack.h"
#include "stages.h"

namespace {

// The largest |log alpha| of a layer, and its exponential.
struct Clip { float most, exponential; };
constexpr Clip kConvClip{8.f, 2980.95799f}, kDenseClip{10.f, 22026.4658f};
constexpr Clip clip_of(int leaf) {
  return kStages[stage_of(leaf_layer(leaf))].kind == kConv ? kConvClip : kDenseClip;
}

// sigma^2, and where log alpha is clipped.
struct Spread {
  F square, sigma2;  // square: of |w| + 1e-15
  I above, below;

  Spread(F w, F log_sigma2, Clip clip) {
    const F size = absolute(w) + 1e-15f;
    square = size * size;
    sigma2 = exp(log_sigma2);
    above = sigma2 >= square * clip.exponential;
    below = sigma2 <= square * (1.f / clip.exponential);
  }
  F variance(F w, Clip clip) const {
    return above ? w * w * clip.exponential : below ? w * w * (1.f / clip.exponential) : sigma2;
  }
};

// The KL divergence of weights (Molchanov et al. 2017, eq. 14).
//   share: weight of the KL divergence in the objective. by_weight, by_variance: gradients of the
//   loss; on return, those of the objective with respect to w and to log sigma^2.
inline F penalize(F w, F log_sigma2, F share, Clip clip, F& by_weight, F& by_variance) {
  constexpr float k1 = 0.63576f, k2 = 1.8732f, k3 = 1.48695f;
  const Spread at(w, log_sigma2, clip);
  F alpha = log_sigma2 - log(at.square), inverse = at.square / at.sigma2;
  alpha = at.above ? splat(clip.most) : at.below ? splat(-clip.most) : alpha;
  inverse = at.above   ? splat(1.f / clip.exponential)
            : at.below ? splat(clip.exponential)
                       : inverse;
  alpha = is_nan(w) ? w : alpha;  // log would return a number
  const F gain = sigmoid(k2 + k3 * alpha);
  const F slope = -share * (k1 * k3 * gain * (1.f - gain) + 0.5f * inverse / (1.f + inverse));
  const I inside = ~(at.above | at.below);
  const F factor = at.above ? splat(2.f * clip.exponential) : splat(2.f / clip.exponential);
  by_weight += inside ? -2.f * slope * w / at.square : factor * w * by_variance;
  by_variance = inside ? by_variance * at.sigma2 + slope : F{};
  return 0.5f * log(1.f + inverse) + k1 * (1.f - gain);
}

// A sum in parts, so that terms are not lost to rounding in a large sum.
class LongSum {
 public:
  void add(F term) {
    part_ += term;
    if (++count_ % 64 == 0) total_ += part_, part_ = F{};
  }
  F total() const { return total_ + part_; }

 private:
  F total_{}, part_{};
  int count_ = 0;
};

// The variances of one member's leaf.
inline void leaf_variances(const float* w, const float* log_sigma2, int size, Clip clip,
                           float* to) {
  for_vectors(size, [&](int i, auto count) {
    const F weight = load_first(w + i, count);
    const Spread at(weight, load_first(log_sigma2 + i, count), clip);
    store_first(at.variance(weight, clip), to + i, count);
  });
}

// The KL divergence of one member's leaf; see `penalize` for the gradients.
inline float penalize_leaf(const float* w, const float* log_sigma2, int size, float share,
                           Clip clip, float* by_weight, float* by_variance) {
  LongSum sum;
  for_vectors(size, [&](int i, auto count) {
    F gw = load_first(by_weight + i, count), gv = load_first(by_variance + i, count);
    F term = penalize(load_first(w + i, count), load_first(log_sigma2 + i, count), splat(share),
                      clip, gw, gv);
    store_first(gw, by_weight + i, count);
    store_first(gv, by_variance + i, count);
    for (int l = count; l < kLanes; ++l) term[l] = 0.f;
    sum.add(term);
  });
  const F total = sum.total();
  float result = 0.f;
  for (int l = 0; l < kLanes; ++l) result += total[l];
  return result;
}

}  // namespace
