// Forward and backward passes of the head: one member after the other, one sample per lane.
#pragma once

#include "dense.h"
#include "rows.h"
#include "stages.h"

namespace {

constexpr int kHeadInputs = shape_before(kHead).size();
// Elements of a row of the head's inputs are one per group of lanes, or those of an image.
constexpr int kHeadStride = kHead > 0 ? kLanes : 1;

template <int I>
struct HeadTape {
  static constexpr StageSpec S = kStages[I];
  static constexpr int in = shape_before(I).size(), out = shape_before(I + 1).size();
  static constexpr bool weighted = S.kind == kDense;
  using Products = RowProducts<in, out, I == kHead ? kHeadStride : kLanes>;
  F y[out], y2[out], dy[out];
  F slope[S.sloped() ? out : 1];
  F by_variance[weighted ? out : 1];
  typename Products::Rows rows, rows2;
};

template <class>
struct HeadTapesOf;
template <int... I>
struct HeadTapesOf<std::integer_sequence<int, I...>> {
  struct Type : HeadTape<kHead + I>... {};
};
using HeadTapes = HeadTapesOf<std::make_integer_sequence<int, kCount - kHead>>::Type;

// Samples as rows; see rows.h.
struct InputRows {
  const float *x[kRows], *x2[kRows];  // x2: the squares
};

// The parameters of one member, in place, and their gradients.
struct HeadParameters {
  const float* values[kDenseLeaves + kVariances];
  float* gradients[kDenseLeaves + kVariances];
};

// Intermediate results of one member. Without a head, only the members' types are used.
struct Head {
  HeadTapes tapes;
  F dx[kHeadInputs], dx2[kHeadInputs];  // gradients of the inputs and of their squares

  template <int Last = kCount - 1>
  F* outputs() {
    return static_cast<HeadTape<Last>&>(tapes).y;
  }
  template <int Last = kCount - 1>
  F* gradient() {
    return static_cast<HeadTape<Last>&>(tapes).dy;
  }

  // Computes the outputs of `count` samples.
  template <bool Train, bool Variational, int I = kHead>
  void forward(const InputRows& in, int count, const HeadParameters& p, const Step& step,
               U in_batch) {
    HeadTape<I>& t = tapes;
    using T = HeadTape<I>;
    if constexpr (T::weighted) {
      constexpr int layer = layers_before(I);
      T::Products::forward(in.x, count, p.values[2 * layer], p.values[2 * layer + 1], t.rows);
      rows_to_lanes<T::out>(t.rows, t.y);
      if constexpr (Variational) {
        F variance[T::out];
        T::Products::forward(in.x2, count, p.values[kDenseLeaves + layer], nullptr, t.rows);
        rows_to_lanes<T::out>(t.rows, variance);
        sample_outputs<T::out>(step.noise.of(T::S.slot), in_batch, variance, t.y, t.by_variance);
      }
    } else {
      std::copy_n(static_cast<HeadTape<I - 1>&>(tapes).y, T::out, t.y);
    }
    activate_all<I, Train>(step, T::out, t.y, t.slope);
    if constexpr (Train) drop_all<I>(step, in_batch, t.y, t.slope);
    if constexpr (I + 1 < kCount) {
      if constexpr (Variational) square(t.y, T::out, t.y2);
      forward<Train, Variational, I + 1>(output_rows<I>(), count, p, step, in_batch);
    }
  }

  // Writes the gradients, or adds to them. With stages before the head, also writes those of its
  // inputs. The last stage's `dy` is given.
  template <bool Variational, int I = kCount - 1>
  void backward(const InputRows& in, int count, const HeadParameters& p, bool add) {
    HeadTape<I>& t = tapes;
    using T = HeadTape<I>;
    if constexpr (T::S.sloped())
      for (int o = 0; o < T::out; ++o) t.dy[o] *= t.slope[o];
    if constexpr (!T::weighted) {
      std::copy_n(t.dy, T::out, static_cast<HeadTape<I - 1>&>(tapes).dy);
    } else {
      constexpr int layer = layers_before(I), variance = kDenseLeaves + layer;
      const InputRows from = rows_before<I>(in);
      lanes_to_rows<T::out>(t.dy, t.rows);
      T::Products::weight_gradient(from.x, count, t.rows, p.gradients[2 * layer], add);
      T::Products::bias_gradient(count, t.rows, p.gradients[2 * layer + 1], add);
      if constexpr (I > 0) T::Products::input_gradient(p.values[2 * layer], t.dy, dx_of<I>());
      if constexpr (Variational) {
        F dv[T::out];
        for (int o = 0; o < T::out; ++o) dv[o] = t.dy[o] * t.by_variance[o];
        lanes_to_rows<T::out>(dv, t.rows2);
        T::Products::weight_gradient(from.x2, count, t.rows2, p.gradients[variance], add);
        if constexpr (I > 0) {
          // dx2 has room for the inputs of the first stage only.
          F other[I > kHead ? T::in : 1];
          F* to = I > kHead ? other : dx2;
          T::Products::input_gradient(p.values[variance], dv, to);
          if constexpr (I > kHead) {
            HeadTape<I - 1>& before = tapes;
            for (int i = 0; i < T::in; ++i) before.dy[i] += 2.f * before.y[i] * other[i];
          }
        }
      }
    }
    if constexpr (I > kHead) backward<Variational, I - 1>(in, count, p, add);
  }

 private:
  template <int I>
  F* dx_of() {
    if constexpr (I > kHead)
      return static_cast<HeadTape<I - 1>&>(tapes).dy;
    else
      return dx;
  }
  template <int I>
  InputRows rows_before(const InputRows& in) {
    if constexpr (I > kHead)
      return output_rows<I - 1>();
    else
      return in;
  }
  // The outputs of a stage as rows.
  template <int I>
  InputRows output_rows() {
    HeadTape<I>& t = tapes;
    InputRows rows;
    for (int b = 0; b < kRows; ++b) {
      rows.x[b] = reinterpret_cast<const float*>(t.y) + b % kLanes;
      rows.x2[b] = reinterpret_cast<const float*>(t.y2) + b % kLanes;
    }
    return rows;
  }
};

}  // namespace
