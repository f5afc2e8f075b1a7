// Forward and backward passes of both layer types, for one sample of kLanes members.
//
// Arrays are [row][column][feature] of lanes, in Flax's order. Sums are kept in registers, in
// blocks whose sides are chosen below, so that each loaded operand is used several times.
#pragma once

#include "lanes.h"

// The sides of the block of a x b sums that fits the registers together with a + 1 operands and
// uses each loaded operand most often. The sides divide the totals.
struct Block { int a, b; };
constexpr bool fits(int a, int b) { return a * b + a + 1 <= kRegisters; }
constexpr Block block(int a_total, int b_total) {
  Block best{1, 1};
  for (int a = 1; a <= 6; ++a)
    for (int b = 1; b <= 8; ++b)
      if (a_total % a == 0 && b_total % b == 0 && fits(a, b) &&
          a * b * (best.a + best.b) > best.a * best.b * (a + b))
        best = {a, b};
  return best;
}
// The same with one side given.
constexpr int side(int a_total, int b) {
  for (int a = 8; a > 1; --a)
    if (a_total % a == 0 && fits(a, b)) return a;
  return 1;
}

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

// Convolution (valid, stride 1), max pooling (floor mode), activation.
//   H: side of the input; C: its channels; K: kernel; O: features; P: pooling.
template <int H_, int C_, int K_, int O_, int P_>
struct Conv {
  static constexpr int H = H_, C = C_, K = K_, O = O_, P = P_;
  static constexpr int R = (H - K + 1) / P;  // side of the output
  static constexpr int W = R * P;            // convolved columns that pooling uses
  static constexpr int T = K * C;            // taps that are contiguous in memory
  static constexpr int kInputs = H * H * C, kOutputs = R * R * O, kWeights = K * K * C * O;
  static constexpr int D = H + K - 1;  // side of the padded gradient
  static constexpr int kPadded = D * D * O, kRows = P * W * O;

  // Sums of one pooling window for NB features.
  template <int NB>
  static inline void window(const F* x, const F* w, const F* bias, F (&out)[P * P][NB]) {
    F sum[P * P][NB];  // a copy, so that it stays in registers
#pragma GCC unroll 8
    for (int o = 0; o < NB; ++o)
#pragma GCC unroll 4
      for (int at = 0; at < P * P; ++at) sum[at][o] = bias[o];
    for (int i = 0; i < K; ++i)
      for (int t = 0; t < T; ++t) {
        F weight[NB];
#pragma GCC unroll 8
        for (int o = 0; o < NB; ++o) weight[o] = w[(i * T + t) * O + o];
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
          for (int q = 0; q < P; ++q) {
            const F value = x[((i + p) * H + q) * C + t];
#pragma GCC unroll 8
            for (int o = 0; o < NB; ++o) sum[p * P + q][o] += value * weight[o];
          }
      }
#pragma GCC unroll 8
    for (int o = 0; o < NB; ++o)
#pragma GCC unroll 4
      for (int at = 0; at < P * P; ++at) out[at][o] = sum[at][o];
  }

  // Writes y and the inputs of the backward pass: the position of each window's maximum, the
  // slope of the activation and, with variational dropout, d(sample)/d(variance) at the maximum.
  template <bool Train, bool Variational>
  static void forward(const F* x, const F* x2, const Weights& p, int activation,
                      const Noise& noise, int in_batch, F* y, I* winner, F* slope,
                      F* by_variance) {
    constexpr int NB = side(O, P * P);
    for (int h = 0; h < R; ++h)
      for (int w = 0; w < R; ++w)
        for (int o = 0; o < O; o += NB) {
          F sum[P * P][NB], spread[P * P][NB];
          window<NB>(x + (P * h * H + P * w) * C, p.kernel + o, p.bias + o, sum);
          if constexpr (Variational) {
            window<NB>(x2 + (P * h * H + P * w) * C, p.variance + o, p.bias_variance + o, spread);
            for (int k = 0; k < NB; ++k)
              draw(noise, in_batch, h, w, o + k, [&](int at, F normal) {
                sum[at][k] = sample(sum[at][k], spread[at][k], normal, spread[at][k]);
              });
          }
          for (int k = 0; k < NB; ++k) {
            const int out = (h * R + w) * O + o + k;
            F best = sum[0][k], factor = spread[0][k];
            I index = I{};
            for (int at = 1; at < P * P; ++at) {
              const I better = (sum[at][k] > best) | is_nan(sum[at][k]);
              best = better ? sum[at][k] : best;
              if (Train) index = better ? I{} + at : index;
              if (Variational) factor = better ? spread[at][k] : factor;
            }
            F s;
            y[out] = activate<Train>(activation, best, s);
            if (Train) slope[out] = s, winner[out] = index;
            if (Variational) by_variance[out] = factor;
          }
        }
  }

  // The normal variates of one window and feature. One hash yields two: for the upper and the
  // lower row of the window or, without pooling, for the two halves of the features.
  template <class Use>
  static inline void draw(const Noise& noise, int b, int h, int w, int o, Use use) {
    U first, second;
    if constexpr (P == 2) {
      for (int q = 0; q < 2; ++q) {
        noise.words((((b * R + h) * 2 + q) * R + w) * O + o, first, second);
        use(q, normal(first));
        use(2 + q, normal(second));
      }
    } else {
      constexpr int half = (O + 1) / 2;
      noise.words(((b * R + h) * R + w) * half + o % half, first, second);
      use(0, normal(o < half ? first : second));
    }
  }

  // Adds to the gradients, and writes the gradient of x unless it is null.
  //   dy: gradient of y. rows, rows2: buffers of kPadded (kRows without dx), initially zero.
  template <bool Variational>
  static void backward(const F* x, const F* x2, const Weights& p, const F* dy, const I* winner,
                       const F* slope, const F* by_variance, const Gradients& g, F* rows,
                       F* rows2, F* dx) {
    const int stride = dx ? D * O : W * O;
    for (int h = 0; h < R; ++h) {
      const int start = dx ? ((K - 1 + P * h) * D + K - 1) * O : 0;
      spread_rows<Variational>(h, dy, winner, slope, by_variance, g, rows + start,
                               rows2 + start, stride);
      gather_weights(x + P * h * H * C, rows + start, stride, g.kernel);
      if (Variational) gather_weights(x2 + P * h * H * C, rows2 + start, stride, g.variance);
    }
    if (!dx) return;
    gather_inputs<false>(nullptr, p.kernel, rows, dx);
    if (Variational) gather_inputs<true>(x, p.variance, rows2, dx);
  }

 private:
  // One row of windows: the gradient goes to the maximum, the other positions get zero.
  template <bool Variational>
  static inline void spread_rows(int h, const F* dy, const I* winner, const F* slope,
                                 const F* by_variance, const Gradients& g, F* d, F* d2,
                                 int stride) {
    for (int w = 0; w < R; ++w)
      for (int o = 0; o < O; ++o) {
        const int out = (h * R + w) * O + o;
        const F mean = dy[out] * slope[out];
        g.bias[o] += mean;
        F variance;
        if constexpr (Variational) {
          variance = mean * by_variance[out];
          g.bias_variance[o] += variance;
        }
        for (int at = 0; at < P * P; ++at) {
          const int to = at / P * stride + (P * w + at % P) * O + o;
          const I won = winner[out] == at;
          d[to] = won ? mean : F{};
          if constexpr (Variational) d2[to] = won ? variance : F{};
        }
      }
  }

  // dw += x * d over the rows of one row of windows.
  static inline void gather_weights(const F* x, const F* d, int stride, F* g) {
    constexpr Block B = block(T, O);
    for (int i = 0; i < K; ++i)
      for (int t = 0; t < T; t += B.a)
        for (int o = 0; o < O; o += B.b) {
          F sum[B.a][B.b];
          F* at = g + (i * T + t) * O + o;
#pragma GCC unroll 8
          for (int a = 0; a < B.a; ++a)
#pragma GCC unroll 8
            for (int b = 0; b < B.b; ++b) sum[a][b] = at[a * O + b];
          for (int p = 0; p < P; ++p)
            for (int w = 0; w < W; ++w) {
              const F* from = x + ((i + p) * H + w) * C + t;
              const F* by = d + p * stride + w * O + o;
              F value[B.a];
#pragma GCC unroll 8
              for (int a = 0; a < B.a; ++a) value[a] = from[a];
#pragma GCC unroll 8
              for (int b = 0; b < B.b; ++b) {
                const F factor = by[b];
#pragma GCC unroll 8
                for (int a = 0; a < B.a; ++a) sum[a][b] += value[a] * factor;
              }
            }
#pragma GCC unroll 8
          for (int a = 0; a < B.a; ++a)
#pragma GCC unroll 8
            for (int b = 0; b < B.b; ++b) at[a * O + b] = sum[a][b];
        }
  }

  // dx = d * w; or, for squared inputs, dx += 2 x (d * w).
  template <bool Squared>
  static inline void gather_inputs(const F* x, const F* w, const F* d, F* dx) {
    constexpr int Q = block(H, C).a, N = block(H, C).b;
    for (int h = 0; h < H; ++h)
      for (int column = 0; column < H; column += Q)
        for (int c = 0; c < C; c += N) {
          F sum[Q][N] = {};
          // Only the taps that do not fall on padding.
          const int i0 = h < W ? 0 : h - W + 1, i1 = h < K ? h : K - 1;
          const int j0 = column < W ? 0 : column - W + 1;
          const int j1 = column + Q - 1 < K ? column + Q - 1 : K - 1;
          for (int i = i0; i <= i1; ++i)
            for (int j = j0; j <= j1; ++j) {
              const F* from = d + ((h + K - 1 - i) * D + column + K - 1 - j) * O;
              const F* by = w + ((i * K + j) * C + c) * O;
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
              const int at = (h * H + column + q) * C + c + n;
              dx[at] = Squared ? dx[at] + 2.f * x[at] * sum[q][n] : sum[q][n];
            }
        }
  }
};

// Fully connected: z = x w + b, sampled under variational dropout (b is not variational).
template <int N_, int O_>
struct Dense {
  static constexpr int N = N_, O = O_, kInputs = N, kOutputs = O, kWeights = N * O;

  static inline void product(const F* x, const F* w, F* sum) {
    for (int i = 0; i < N; ++i)
      for (int o = 0; o < O; ++o) sum[o] += x[i] * w[i * O + o];
  }

  template <bool Variational>
  static void forward(const F* x, const F* x2, const Weights& p, const Noise& noise,
                      int in_batch, F* z, F* by_variance) {
    for (int o = 0; o < O; ++o) z[o] = p.bias[o];
    product(x, p.kernel, z);
    if constexpr (Variational) {
      constexpr int half = (O + 1) / 2;
      F variance[O] = {};
      product(x2, p.variance, variance);
      for (int o = 0; o < half; ++o) {
        U first, second;
        noise.words(in_batch * half + o, first, second);
        z[o] = sample(z[o], variance[o], normal(first), by_variance[o]);
        const int other = o + half;
        if (other < O)
          z[other] = sample(z[other], variance[other], normal(second), by_variance[other]);
      }
    }
  }

  template <bool Variational>
  static void backward(const F* x, const F* x2, const Weights& p, const F* dz,
                       const F* by_variance, const Gradients& g, F* dx) {
    F dv[O];
    for (int o = 0; o < O; ++o) {
      g.bias[o] += dz[o];
      if constexpr (Variational) dv[o] = dz[o] * by_variance[o];
    }
    for (int i = 0; i < N; ++i) {
      F sum = F{}, sum2 = F{};
      for (int o = 0; o < O; ++o) {
        sum += dz[o] * p.kernel[i * O + o];
        g.kernel[i * O + o] += x[i] * dz[o];
        if constexpr (Variational) {
          sum2 += dv[o] * p.variance[i * O + o];
          g.variance[i * O + o] += x2[i] * dv[o];
        }
      }
      dx[i] = Variational ? sum + 2.f * x[i] * sum2 : sum;
    }
  }
};
