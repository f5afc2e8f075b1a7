// Forward and backward passes of networks of a few inputs, such as the coordinates of a pixel: one
// member after the other, with one sample per lane, for many samples at a time.
//
// All layers are fully connected and small, so that weights and activations stay in the cache, and
// gradients are summed over all samples before their lanes are.
#pragma once

#include "dense.h"
#include "pack.h"
#include "stages.h"

namespace {

// Vectors of samples that are processed together, and that are kept in registers at a time.
constexpr int kTile = 16, kColumns = kRegisters >= 32 ? 4 : 3;

// Products of N inputs and O outputs; arrays are [vector of samples][feature].
template <int N, int O>
struct PointProducts {
  // Calls use(width, start) for the vectors of a tile.
  template <class Use>
  static inline void for_vectors(int count, const Use& use) {
    int t = 0;
    for (; t + kColumns <= count; t += kColumns)
      use(std::integral_constant<int, kColumns>{}, t);
    for (; t < count; ++t) use(std::integral_constant<int, 1>{}, t);
  }

  // z = bias + x w
  static void forward(const F* x, int count, const float* w, const float* bias, F* z) {
    constexpr int A = side(O, kColumns);
    for_vectors(count, [&](auto vectors, int t) __attribute__((always_inline)) {
      for_blocks<O, A>([&](auto outputs, int o) __attribute__((always_inline)) {
        constexpr int B = decltype(vectors)::value, NA = decltype(outputs)::value;
        F sum[NA][B];
#pragma GCC unroll 8
        for (int a = 0; a < NA; ++a)
#pragma GCC unroll 4
          for (int b = 0; b < B; ++b) sum[a][b] = splat(bias ? bias[o + a] : 0.f);
        for (int i = 0; i < N; ++i) {
          F value[B];
#pragma GCC unroll 4
          for (int b = 0; b < B; ++b) value[b] = x[(t + b) * N + i];
#pragma GCC unroll 8
          for (int a = 0; a < NA; ++a) {
            const float factor = w[i * O + o + a];
#pragma GCC unroll 4
            for (int b = 0; b < B; ++b) sum[a][b] += value[b] * factor;
          }
        }
#pragma GCC unroll 8
        for (int a = 0; a < NA; ++a)
#pragma GCC unroll 4
          for (int b = 0; b < B; ++b) z[(t + b) * O + o + a] = sum[a][b];
      });
    });
  }

  // dx = d w^T, or dx += 2 x (d w^T) for squared inputs
  template <bool Squared>
  static void input_gradient(const float* w, const F* d, int count, const F* x, F* dx) {
    constexpr int A = side(N, kColumns);
    for_vectors(count, [&](auto vectors, int t) __attribute__((always_inline)) {
      for_blocks<N, A>([&](auto inputs, int i) __attribute__((always_inline)) {
        constexpr int B = decltype(vectors)::value, NA = decltype(inputs)::value;
        F sum[NA][B] = {};
        for (int o = 0; o < O; ++o) {
          F value[B];
#pragma GCC unroll 4
          for (int b = 0; b < B; ++b) value[b] = d[(t + b) * O + o];
#pragma GCC unroll 8
          for (int a = 0; a < NA; ++a) {
            const float factor = w[(i + a) * O + o];
#pragma GCC unroll 4
            for (int b = 0; b < B; ++b) sum[a][b] += value[b] * factor;
          }
        }
#pragma GCC unroll 8
        for (int a = 0; a < NA; ++a)
#pragma GCC unroll 4
          for (int b = 0; b < B; ++b) {
            const int at = (t + b) * N + i + a;
            dx[at] = Squared ? dx[at] + 2.f * x[at] * sum[a][b] : sum[a][b];
          }
      });
    });
  }

  // g += x^T d, per lane
  static void weight_gradient(const F* x, const F* d, int count, F* g) {
    constexpr Block S = block(N, O);
    for_blocks<N, S.a>([&](auto inputs, int i) __attribute__((always_inline)) {
      for_blocks<O, S.b>([&](auto outputs, int o) __attribute__((always_inline)) {
        constexpr int A = decltype(inputs)::value, B = decltype(outputs)::value;
        F sum[A][B];
#pragma GCC unroll 8
        for (int a = 0; a < A; ++a)
#pragma GCC unroll 8
          for (int b = 0; b < B; ++b) sum[a][b] = g[(i + a) * O + o + b];
        for (int t = 0; t < count; ++t) {
          F value[A];
#pragma GCC unroll 8
          for (int a = 0; a < A; ++a) value[a] = x[t * N + i + a];
#pragma GCC unroll 8
          for (int b = 0; b < B; ++b) {
            const F factor = d[t * O + o + b];
#pragma GCC unroll 8
            for (int a = 0; a < A; ++a) sum[a][b] += value[a] * factor;
          }
        }
#pragma GCC unroll 8
        for (int a = 0; a < A; ++a)
#pragma GCC unroll 8
          for (int b = 0; b < B; ++b) g[(i + a) * O + o + b] = sum[a][b];
      });
    });
  }

  // g += sum of d, per lane
  static void bias_gradient(const F* d, int count, F* g) {
    for (int t = 0; t < count; ++t)
      for (int o = 0; o < O; ++o) g[o] += d[t * O + o];
  }
};

// Results of one stage for a tile, from the forward pass for the backward pass.
template <int I>
struct PointTape {
  static constexpr StageSpec S = kStages[I];
  static constexpr int in = shape_before(I).size(), out = shape_before(I + 1).size();
  static constexpr bool weighted = S.kind == kDense;
  using Products = PointProducts<in, out>;
  F y[kTile * out], dy[kTile * out];
  F slope[S.sloped() ? kTile * out : 1];
  F by_variance[weighted ? kTile * out : 1];
  F x2[weighted ? kTile * in : 1];  // the squared input
};

template <class>
struct PointTapesOf;
template <int... I>
struct PointTapesOf<std::integer_sequence<int, I...>> {
  struct Type : PointTape<I>... {};
};

// The parameters of one member, in place.
struct PointParameters { const float* values[kDenseLeaves + kVariances]; };

// A tile of samples of one member.
struct Points {
  PointTapesOf<std::make_integer_sequence<int, kPoints ? kCount : 0>>::Type tapes;
  F x[kTile * kInputs];
  F gradients[kPointParameters];  // of all leaves, per lane

  template <int Last = kCount - 1>
  F* outputs() {
    return static_cast<PointTape<Last>&>(tapes).y;
  }
  template <int Last = kCount - 1>
  F* gradient() {
    return static_cast<PointTape<Last>&>(tapes).dy;
  }

  // Computes the outputs of `count` vectors of samples, whose inputs are in x.
  //   in_batch: positions of the samples in the batch.
  template <bool Train, bool Variational, int I = 0>
  void forward(int count, const PointParameters& p, const Step& step, const U* in_batch) {
    PointTape<I>& t = tapes;
    using T = PointTape<I>;
    const F* from = input<I>();
    if constexpr (T::weighted) {
      constexpr int layer = layers_before(I);
      T::Products::forward(from, count, p.values[2 * layer], p.values[2 * layer + 1], t.y);
      if constexpr (Variational) {
        square(from, count * T::in, t.x2);
        // The variances take the place of the gradients, which come later.
        T::Products::forward(t.x2, count, p.values[kDenseLeaves + layer], nullptr, t.dy);
        for (int k = 0; k < count; ++k)
          sample_outputs<T::out>(step.noise.of(T::S.slot), in_batch[k], t.dy + k * T::out,
                                 t.y + k * T::out, t.by_variance + k * T::out);
      }
    } else {
      std::copy_n(from, count * T::out, t.y);
    }
    activate_all<I, Train>(step, count * T::out, t.y, t.slope);
    if constexpr (Train && T::S.dropout >= 0)
      for (int k = 0; k < count; ++k)
        drop_all<I>(step, in_batch[k], t.y + k * T::out, t.slope + k * T::out);
    if constexpr (I + 1 < kCount)
      forward<Train, Variational, I + 1>(count, p, step, in_batch);
  }

  // Adds to the gradients of the leaves. The last stage's `dy` is given.
  template <bool Variational, int I = kCount - 1>
  void backward(int count, const PointParameters& p) {
    PointTape<I>& t = tapes;
    using T = PointTape<I>;
    F* dx = nullptr;
    if constexpr (I > 0) dx = static_cast<PointTape<I - 1>&>(tapes).dy;
    if constexpr (T::S.sloped())
      for (int o = 0; o < count * T::out; ++o) t.dy[o] *= t.slope[o];
    if constexpr (T::weighted) {
      constexpr int layer = layers_before(I), variance = kDenseLeaves + layer;
      const F* from = input<I>();
      T::Products::weight_gradient(from, t.dy, count, gradients + point_start(2 * layer));
      T::Products::bias_gradient(t.dy, count, gradients + point_start(2 * layer + 1));
      if constexpr (I > 0)
        T::Products::template input_gradient<false>(p.values[2 * layer], t.dy, count, from, dx);
      if constexpr (Variational) {
        for (int o = 0; o < count * T::out; ++o) t.dy[o] *= t.by_variance[o];
        T::Products::weight_gradient(t.x2, t.dy, count, gradients + point_start(variance));
        if constexpr (I > 0)
          T::Products::template input_gradient<true>(p.values[variance], t.dy, count, from, dx);
      }
    } else if constexpr (I > 0) {
      std::copy_n(t.dy, count * T::out, dx);
    }
    if constexpr (I > 0) backward<Variational, I - 1>(count, p);
  }

 private:
  template <int I>
  const F* input() {
    if constexpr (I > 0)
      return static_cast<PointTape<I - 1>&>(tapes).y;
    else
      return x;
  }
};

// Takes the place of Points in other networks.
struct NoPoints {};

// to[i] = the sum of the lanes of from[i]
inline void sum_lanes(const F* from, int size, float* to) {
  for (int i = 0; i < size; i += kLanes) {
    const int count = std::min(kLanes, size - i);
    F tile[kLanes];
    for (int l = 0; l < kLanes; ++l) tile[l] = l < count ? from[i + l] : F{};
    transpose(tile);
    for (int step = kLanes / 2; step > 0; step /= 2)
      for (int l = 0; l < step; ++l) tile[l] += tile[l + step];
    std::memcpy(to + i, &tile[0], count * sizeof(float));
  }
}

}  // namespace
