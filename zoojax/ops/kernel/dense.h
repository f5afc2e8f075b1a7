// Fully connected layer with one member per lane, for one sample: z = x w + b, sampled under
// variational dropout (b is not variational).
#pragma once

#include "conv.h"

// Samples the outputs of a layer.
//   in_batch: position of the sample in the batch; one number, or one per lane.
template <int O, class Position>
inline void sample_outputs(const Noise& noise, Position in_batch, const F* variance, F* z,
                           F* by_variance) {
  constexpr int half = (O + 1) / 2;
  for (int o = 0; o < half; ++o) {
    U first, second;
    noise.words(in_batch * half + o, first, second);
    z[o] = sample(z[o], variance[o], normal(first), by_variance[o]);
    const int other = o + half;
    if (other < O)
      z[other] = sample(z[other], variance[other], normal(second), by_variance[other]);
  }
}

template <int N, int O>
struct Dense {
  static constexpr int kOutputs = O, kWeights = N * O;

  // z = bias + x w
  static inline void product(const F* x, const F* w, const F* bias, F* z) {
    for_blocks<O, kRegisters - 4>([&](auto outputs, int o) __attribute__((always_inline)) {
      constexpr int B = decltype(outputs)::value;
      F sum[B];
#pragma GCC unroll 32
      for (int b = 0; b < B; ++b) sum[b] = bias ? bias[o + b] : F{};
      for (int i = 0; i < N; ++i) {
        const F value = x[i];
#pragma GCC unroll 32
        for (int b = 0; b < B; ++b) sum[b] += value * w[i * O + o + b];
      }
#pragma GCC unroll 32
      for (int b = 0; b < B; ++b) z[o + b] = sum[b];
    });
  }

  template <bool Variational>
  static void forward(const F* x, const F* x2, const Weights& p, const Noise& noise,
                      uint32_t in_batch, F* z, F* by_variance) {
    product(x, p.kernel, p.bias, z);
    if constexpr (Variational) {
      F variance[O];
      product(x2, p.variance, nullptr, variance);
      sample_outputs<O>(noise, in_batch, variance, z, by_variance);
    }
  }

  // Adds to the gradients, and writes the gradient of x unless it is null.
  template <bool Variational>
  static void backward(const F* x, const F* x2, const Weights& p, const F* dz,
                       const F* by_variance, const Gradients& g, F* dx) {
    F dv[O];
    for (int o = 0; o < O; ++o) {
      g.bias[o] += dz[o];
      if constexpr (Variational) dv[o] = dz[o] * by_variance[o];
    }
    for_blocks<N, 4>([&](auto inputs, int i) __attribute__((always_inline)) {
      constexpr int B = decltype(inputs)::value;
      F sum[B] = {}, sum2[B] = {};
      for (int o = 0; o < O; ++o)
#pragma GCC unroll 4
        for (int b = 0; b < B; ++b) {
          const int at = (i + b) * O + o;
          sum[b] += dz[o] * p.kernel[at];
          g.kernel[at] += x[i + b] * dz[o];
          if constexpr (Variational) {
            sum2[b] += dv[o] * p.variance[at];
            g.variance[at] += x2[i + b] * dv[o];
          }
        }
      if (dx)
        for (int b = 0; b < B; ++b)
          dx[i + b] = Variational ? sum[b] + 2.f * x[i + b] * sum2[b] : sum[b];
    });
  }
};
