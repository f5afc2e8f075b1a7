// The step of Adam, for one member's leaf while its gradient is in the cache. With decay of the
// gradient (L2), or of the weights (AdamW).
#pragma once

#include "pack.h"
#include "stages.h"

namespace {

// Numbers of a member's step: the learning rate; weight decay that is added to the gradient; factor
// of the weights; corrections of the biases of both moments.
struct AdamNumbers { float rate, decay, keep, mean_scale, square_scale; };
constexpr int kAdamNumbers = sizeof(AdamNumbers) / sizeof(float);

// As in zoojax/optimizers.py. Results may be in place of the operands.
struct Adam {
  float b1, one_minus_b1, b2, one_minus_b2, eps;
  const AdamNumbers* numbers;  // [members]
  // The parameters and both moments, by leaf, before and after the step.
  const float *values[kDenseLeaves + kVariances], *mean[kDenseLeaves + kVariances],
      *square[kDenseLeaves + kVariances];
  float *new_values[kDenseLeaves + kVariances], *new_mean[kDenseLeaves + kVariances],
      *new_square[kDenseLeaves + kVariances];

  void step(int leaf, int m, const float* gradient) const {
    const AdamNumbers n = numbers[m];
    const int64_t start = int64_t(m) * leaf_size(leaf);
    const float *w = values[leaf] + start, *mu = mean[leaf] + start, *nu = square[leaf] + start;
    float *new_w = new_values[leaf] + start, *new_mu = new_mean[leaf] + start,
          *new_nu = new_square[leaf] + start;
    for_vectors(leaf_size(leaf), [&](int i, auto count) {
      const F before = load_first(w + i, count);
      const F g = load_first(gradient + i, count) + n.decay * before;
      const F first = one_minus_b1 * g + b1 * load_first(mu + i, count);
      const F second = one_minus_b2 * (g * g) + b2 * load_first(nu + i, count);
      const F update = first * n.mean_scale / (sqrt(second * n.square_scale) + eps);
      store_first(first, new_mu + i, count);
      store_first(second, new_nu + i, count);
      store_first(before * n.keep - n.rate * update, new_w + i, count);
    });
  }
};

}  // namespace
