// Forward and backward passes of a convolution, for one sample of kLanes members.
//
// Arrays are [row][column][feature] of lanes, in Flax's order.
#pragma once

#include "activations.h"
#include "blocks.h"

// Gradients of a layer's parameters; null for variances if there are none.
struct Gradients { F *kernel, *bias, *variance, *bias_variance; };
struct Weights { const F *kernel, *bias, *variance, *bias_variance; };

constexpr float kVarianceFloor = 1e-8f;

// Sample mean + sqrt(variance) * noise, and d(sample)/d(variance).
inline F sample(F mean, F variance, F noise, F& by_variance) {
  const F s = sqrt(variance + kVarianceFloor);
  by_variance = 0.5f * noise / s;
  return mean + s * noise;
}

// When the maximum of a fused pooling is taken.
enum PoolingOrder { kPoolFirst, kActivateFirst };

// Convolution, max pooling (window and stride P, floor mode), activation.
//   H, W: sides of the input, including padding; C: its channels; KH, KW: kernel; O: features;
//   SH, SW: stride; P: pooling, 1 or 2; PooledNoise: the noise is laid out by pooling windows;
//   Inputs: whether the gradient of the input is needed.
template <int H, int W, int C, int KH, int KW, int O, int SH, int SW, int P, bool PooledNoise,
          PoolingOrder Order, bool Inputs>
struct Conv {
  static constexpr int CH = (H - KH) / SH + 1, CW = (W - KW) / SW + 1;  // convolved sides
  static constexpr int RH = CH / P, RW = CW / P;                        // sides of the output
  static constexpr int UH = RH * P, UW = RW * P;  // convolved sides that pooling uses
  static constexpr int T = KW * C;                // taps that are contiguous in memory
  static constexpr int kOutputs = RH * RW * O, kWeights = KH * KW * C * O;

  // The gradient of the convolved image. With stride 1 it is padded, so that the gradient of the
  // input is a convolution of it.
  static constexpr bool kPadded = Inputs && SH == 1 && SW == 1;
  static constexpr int DH = H + KH - 1, DW = kPadded ? W + KW - 1 : UW;
  // Rows of windows whose gradient is held at once, so that the sums of the kernel's gradient are
  // long and the held rows remain in the cache.
  static constexpr int kFewest = 48 / (P * UW) + (48 % (P * UW) != 0);
  static constexpr int kBands = kFewest < RH ? (RH + kFewest - 1) / kFewest : 1;
  static constexpr int kBand = (RH + kBands - 1) / kBands;
  static constexpr int kGradients = (kPadded ? DH : Inputs ? UH : kBand * P) * DW * O;

  // Sums of P rows and Q columns for NB features.
  template <int Q, int NB>
  static inline void window(const F* x, const F* w, const F* bias, F (&out)[P * Q][NB]) {
    F sum[P * Q][NB];  // a copy, so that it stays in registers
#pragma GCC unroll 8
    for (int o = 0; o < NB; ++o)
#pragma GCC unroll 8
      for (int at = 0; at < P * Q; ++at) sum[at][o] = bias[o];
    for (int i = 0; i < KH; ++i)
      for (int t = 0; t < T; ++t) {
        F weight[NB];
#pragma GCC unroll 8
        for (int o = 0; o < NB; ++o) weight[o] = w[(i * T + t) * O + o];
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
          for (int q = 0; q < Q; ++q) {
            const F value = x[((i + p * SH) * W + q * SW) * C + t];
#pragma GCC unroll 8
            for (int o = 0; o < NB; ++o) sum[p * Q + q][o] += value * weight[o];
          }
      }
#pragma GCC unroll 8
    for (int o = 0; o < NB; ++o)
#pragma GCC unroll 8
      for (int at = 0; at < P * Q; ++at) out[at][o] = sum[at][o];
  }

  // Features and columns of a block; pooled convolutions compute one window.
  static constexpr int kFeatures = P == 1 ? block(O, RW).a : side(O, P * P);
  static constexpr int kColumns = P == 1 ? block(O, RW).b : 1;

  // Writes y and the inputs of the backward pass: the position of each window's maximum, the
  // slope of the activation and, with variational dropout, d(sample)/d(variance) at the maximum.
  template <bool Train, bool Variational, class Act>
  static void forward(const F* x, const F* x2, const Weights& p, const Act& act,
                      const Noise& noise, uint32_t in_batch, F* y, I* winner, F* slope,
                      F* by_variance) {
    for (int h = 0; h < RH; ++h)
      for_blocks<RW, kColumns>([&](auto columns, int w) __attribute__((always_inline)) {
        constexpr int Q = decltype(columns)::value;
        F normals[Variational && !PooledNoise ? P * P * Q * O : 1];
        if constexpr (Variational && !PooledNoise) draw_plain<Q>(noise, in_batch, h, w, normals);
        for_blocks<O, kFeatures>([&](auto features, int o) __attribute__((always_inline)) {
          constexpr int NB = decltype(features)::value, PQ = P * Q;
          F sum[P * PQ][NB], spread[P * PQ][NB];
          const int at = (P * h * SH * W + P * w * SW) * C;
          window<PQ, NB>(x + at, p.kernel + o, p.bias + o, sum);
          if constexpr (Variational) {
            window<PQ, NB>(x2 + at, p.variance + o, p.bias_variance + o, spread);
            for (int k = 0; k < NB; ++k) {
              const auto use = [&](int at, F normal) {
                sum[at][k] = sample(sum[at][k], spread[at][k], normal, spread[at][k]);
              };
              if constexpr (PooledNoise)
                draw_window(noise, in_batch, h, w, o + k, use);
              else
                for (int at = 0; at < P * PQ; ++at) use(at, normals[at * O + o + k]);
            }
          }
          if constexpr (P == 1) {
            for (int q = 0; q < Q; ++q)
              for (int k = 0; k < NB; ++k) {
                const int out = (h * RW + w + q) * O + o + k;
                F s;
                y[out] = act.template apply<Train>(sum[q][k], s);
                if constexpr (Train && Act::kAny) slope[out] = s;
                if constexpr (Variational) by_variance[out] = spread[q][k];
              }
          } else {
            for (int k = 0; k < NB; ++k) {
              const int out = (h * RW + w) * O + o + k;
              select<Train, Variational>(sum, spread, k, act, out, y, winner, slope, by_variance);
            }
          }
        });
      });
  }

  // Adds to the gradients, and writes the gradient of x.
  //   dy: gradient of y. d, d2: buffers of kGradients, initially zero. dx: [H][W][C], with padding.
  template <bool Variational, bool Slope>
  static void backward(const F* x, const F* x2, const Weights& p, const F* dy, const I* winner,
                       const F* slope, const F* by_variance, const Gradients& g, F* d, F* d2,
                       F* dx) {
    constexpr int start = kPadded ? ((KH - 1) * DW + KW - 1) * O : 0;
    for (int h = 0; h < RH; h += kBand) {
      const int end = h + kBand < RH ? h + kBand : RH;
      const int offset = start + (Inputs ? P * h * DW * O : 0);
      for (int row = h; row < end; ++row) {
        const int to = offset + P * (row - h) * DW * O;
        spread_row<Variational, Slope>(row, dy, winner, slope, by_variance, g, d + to, d2 + to);
      }
      const int from = P * h * SH * W * C, rows = P * (end - h);
      gather_weights(x + from, d + offset, rows, g.kernel);
      if constexpr (Variational) gather_weights(x2 + from, d2 + offset, rows, g.variance);
    }
    if constexpr (kPadded) {
      gather_inputs<false>(nullptr, p.kernel, d, dx);
      if constexpr (Variational) gather_inputs<true>(x, p.variance, d2, dx);
    } else if constexpr (Inputs) {
      for (int i = 0; i < H * W * C; ++i) dx[i] = F{};
      scatter_inputs<false>(nullptr, p.kernel, d, dx);
      if constexpr (Variational) scatter_inputs<true>(x, p.variance, d2, dx);
    }
  }

 private:
  // The maximum of the window of one feature, and what its gradient needs.
  template <bool Train, bool Variational, int NB, class Act>
  static inline void select(F (&sum)[P * P][NB], F (&spread)[P * P][NB], int k, const Act& act,
                            int out, F* y, I* winner, F* slope, F* by_variance) {
    if (Order == kActivateFirst && !act.monotone()) {
      F slopes[P * P];
      for (int at = 0; at < P * P; ++at)
        sum[at][k] = act.template apply<Train>(sum[at][k], slopes[at]);
      F s = slopes[0];
      y[out] = maximum<Train, Variational>(sum, spread, k, out, winner, by_variance,
                                           [&](int at, I better) {
                                             if (Train) s = better ? slopes[at] : s;
                                           });
      if constexpr (Train && Act::kAny) slope[out] = s;
      return;
    }
    F s;
    const F best = maximum<Train, Variational>(sum, spread, k, out, winner, by_variance,
                                               [](int, I) {});
    y[out] = act.template apply<Train>(best, s);
    if constexpr (Train && Act::kAny) slope[out] = s;
  }

  // Calls found(at, where) for each position that exceeds those before it in some lanes.
  template <bool Train, bool Variational, int NB, class Found>
  static inline F maximum(F (&sum)[P * P][NB], F (&spread)[P * P][NB], int k, int out, I* winner,
                          F* by_variance, const Found& found) {
    F best = sum[0][k], factor = spread[0][k];
    I index = I{};
    for (int at = 1; at < P * P; ++at) {
      const I better = (sum[at][k] > best) | is_nan(sum[at][k]);
      best = better ? sum[at][k] : best;
      if (Train) index = better ? I{} + at : index;
      if (Variational) factor = better ? spread[at][k] : factor;
      found(at, better);
    }
    if constexpr (Train) winner[out] = index;
    if constexpr (Variational) by_variance[out] = factor;
    return best;
  }

  // The normal variates of one window and feature. One hash yields two, for the upper and the
  // lower row of the window.
  template <class Use>
  static inline void draw_window(const Noise& noise, uint32_t b, int h, int w, int o, Use use) {
    U first, second;
    for (int q = 0; q < P; ++q) {
      noise.words((((b * RH + h) * P + q) * RW + w) * O + o, first, second);
      use(q, normal(first));
      use(P + q, normal(second));
    }
  }

  // The normal variates of P rows and P * Q columns. One hash yields two, for the two halves of
  // the features.
  template <int Q>
  static inline void draw_plain(const Noise& noise, uint32_t b, int h, int w, F* normals) {
    constexpr int half = (O + 1) / 2;
    for (int p = 0; p < P; ++p)
      for (int q = 0; q < P * Q; ++q, normals += O)
        for (int o = 0; o < half; ++o) {
          U first, second;
          noise.words(((b * CH + P * h + p) * CW + P * w + q) * half + o, first, second);
          normals[o] = normal(first);
          if (o + half < O) normals[o + half] = normal(second);
        }
  }

  // One row of windows: the gradient goes to the maximum, the other positions get zero.
  template <bool Variational, bool Slope>
  static inline void spread_row(int h, const F* dy, const I* winner, const F* slope,
                                const F* by_variance, const Gradients& g, F* d, F* d2) {
    for (int w = 0; w < RW; ++w)
      for (int o = 0; o < O; ++o) {
        const int out = (h * RW + w) * O + o;
        const F mean = Slope ? dy[out] * slope[out] : dy[out];
        g.bias[o] += mean;
        F variance;
        if constexpr (Variational) {
          variance = mean * by_variance[out];
          g.bias_variance[o] += variance;
        }
        for (int at = 0; at < P * P; ++at) {
          const int to = at / P * DW * O + (P * w + at % P) * O + o;
          if constexpr (P == 1) {
            d[to] = mean;
            if constexpr (Variational) d2[to] = variance;
          } else {
            const I won = winner[out] == at;
            d[to] = won ? mean : F{};
            if constexpr (Variational) d2[to] = won ? variance : F{};
          }
        }
      }
  }

  // dw += x * d over some rows.
  static inline void gather_weights(const F* x, const F* d, int rows, F* g) {
    constexpr Block B = block(T, O);
    for (int i = 0; i < KH; ++i)
      for_blocks<T, B.a>([&](auto taps, int t) __attribute__((always_inline)) {
        for_blocks<O, B.b>([&](auto features, int o) __attribute__((always_inline)) {
          constexpr int A = decltype(taps)::value, N = decltype(features)::value;
          F sum[A][N];
          F* at = g + (i * T + t) * O + o;
#pragma GCC unroll 8
          for (int a = 0; a < A; ++a)
#pragma GCC unroll 8
            for (int b = 0; b < N; ++b) sum[a][b] = at[a * O + b];
          for (int p = 0; p < rows; ++p)
            for (int w = 0; w < UW; ++w) {
              const F* from = x + ((i + p * SH) * W + w * SW) * C + t;
              const F* by = d + (p * DW + w) * O + o;
              F value[A];
#pragma GCC unroll 8
              for (int a = 0; a < A; ++a) value[a] = from[a];
#pragma GCC unroll 8
              for (int b = 0; b < N; ++b) {
                const F factor = by[b];
#pragma GCC unroll 8
                for (int a = 0; a < A; ++a) sum[a][b] += value[a] * factor;
              }
            }
#pragma GCC unroll 8
          for (int a = 0; a < A; ++a)
#pragma GCC unroll 8
            for (int b = 0; b < N; ++b) at[a * O + b] = sum[a][b];
        });
      });
  }

  // Stride 1: dx = d * w; or, for squared inputs, dx += 2 x (d * w).
  template <bool Squared>
  static inline void gather_inputs(const F* x, const F* w, const F* d, F* dx) {
    constexpr Block B = block(W, C);
    for (int h = 0; h < H; ++h)
      for_blocks<W, B.a>([&](auto columns, int column) __attribute__((always_inline)) {
        for_blocks<C, B.b>([&](auto channels, int c) __attribute__((always_inline)) {
          constexpr int Q = decltype(columns)::value, N = decltype(channels)::value;
          F sum[Q][N] = {};
          // Only the taps that do not fall on padding.
          const int i0 = h < UH ? 0 : h - UH + 1, i1 = h < KH ? h : KH - 1;
          const int j0 = column < UW ? 0 : column - UW + 1;
          const int j1 = column + Q - 1 < KW ? column + Q - 1 : KW - 1;
          for (int i = i0; i <= i1; ++i)
            for (int j = j0; j <= j1; ++j) {
              const F* from = d + ((h + KH - 1 - i) * DW + column + KW - 1 - j) * O;
              const F* by = w + ((i * KW + j) * C + c) * O;
              for (int o = 0; o < O; ++o) {
                F value[Q];
#pragma GCC unroll 8
                for (int q = 0; q < Q; ++q) value[q] = from[q * O + o];
#pragma GCC unroll 8
                for (int n = 0; n < N; ++n) {
                  const F factor = by[n * O + o];
#pragma GCC unroll 8
                  for (int q = 0; q < Q; ++q) sum[q][n] += value[q] * factor;
                }
              }
            }
#pragma GCC unroll 8
          for (int q = 0; q < Q; ++q)
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) {
              const int at = (h * W + column + q) * C + c + n;
              dx[at] = Squared ? dx[at] + 2.f * x[at] * sum[q][n] : sum[q][n];
            }
        });
      });
  }

  // Any stride: dx += d * w, tap by tap; or, for squared inputs, dx += 2 x (d * w).
  template <bool Squared>
  static inline void scatter_inputs(const F* x, const F* w, const F* d, F* dx) {
    constexpr Block B = block(UW, C);
    for (int row = 0; row < UH; ++row)
      for (int tap = 0; tap < KH * KW; ++tap)
        for_blocks<UW, B.a>([&](auto columns, int column) __attribute__((always_inline)) {
          for_blocks<C, B.b>([&](auto channels, int c) __attribute__((always_inline)) {
            constexpr int Q = decltype(columns)::value, N = decltype(channels)::value;
            F sum[Q][N] = {};
            const F* from = d + (row * DW + column) * O;
            const F* by = w + (tap * C + c) * O;
            for (int o = 0; o < O; ++o) {
              F value[Q];
#pragma GCC unroll 8
              for (int q = 0; q < Q; ++q) value[q] = from[q * O + o];
#pragma GCC unroll 8
              for (int n = 0; n < N; ++n) {
                const F factor = by[n * O + o];
#pragma GCC unroll 8
                for (int q = 0; q < Q; ++q) sum[q][n] += value[q] * factor;
              }
            }
            const int start = ((row * SH + tap / KW) * W + column * SW + tap % KW) * C + c;
#pragma GCC unroll 8
            for (int q = 0; q < Q; ++q)
#pragma GCC unroll 8
              for (int n = 0; n < N; ++n) {
                const int at = start + q * SW * C + n;
                dx[at] += Squared ? 2.f * x[at] * sum[q][n] : sum[q][n];
              }
          });
        });
  }
};
