// Forward and backward passes of the stages before the head, for one sample of kLanes members.
#pragma once

#include "dense.h"
#include "pool.h"
#include "stages.h"

namespace {

template <int I>
struct Sizes {
  static constexpr StageSpec S = kStages[I];
  static constexpr Shape in = shape_before(I), out = shape_before(I + 1);
  static constexpr int H = in.h + S.top + S.bottom, W = in.w + S.left + S.right;
  static constexpr bool padded =
      S.kind == kConv && (S.top != 0 || S.bottom != 0 || S.left != 0 || S.right != 0);
};

template <int I>
using ConvOf =
    Conv<Sizes<I>::H, Sizes<I>::W, Sizes<I>::in.c, kStages[I].kernel_h, kStages[I].kernel_w,
         kStages[I].features, kStages[I].stride_h, kStages[I].stride_w, kStages[I].pool,
         kStages[I].pooled_noise != 0, PoolingOrder(kStages[I].order), (I > 0)>;
template <int I>
using DenseOf = Dense<Sizes<I>::in.size(), kStages[I].features>;
template <int I>
using MaxPoolOf =
    MaxPool<Sizes<I>::in.h, Sizes<I>::in.w, Sizes<I>::in.c, kStages[I].kernel_h,
            kStages[I].kernel_w, kStages[I].stride_h, kStages[I].stride_w, kStages[I].top,
            kStages[I].left, Sizes<I>::out.h, Sizes<I>::out.w>;
template <int I>
using AveragePoolOf =
    AveragePool<Sizes<I>::in.h, Sizes<I>::in.w, Sizes<I>::in.c, kStages[I].kernel_h,
                kStages[I].kernel_w, kStages[I].stride_h, kStages[I].stride_w, kStages[I].top,
                kStages[I].left, Sizes<I>::out.h, Sizes<I>::out.w>;

template <int I>
constexpr int gradient_size() {
  if constexpr (kStages[I].kind == kConv) return ConvOf<I>::kGradients;
  return 1;
}

// Intermediate results of one stage and sample, from the forward pass for the backward pass. An
// array that the stage does not need has one element.
template <int Stage>
struct Tape {
  using Z = Sizes<Stage>;
  static constexpr int out = Z::out.size();
  static constexpr int padded = Z::H * Z::W * Z::in.c, squared = Z::padded ? padded : Z::in.size();
  static constexpr bool chosen = Z::S.kind == kMaxPool || (Z::S.kind == kConv && Z::S.pool > 1);
  F y[out], dy[out];
  F slope[Z::S.sloped() ? out : 1];
  F by_variance[Z::S.weighted() ? out : 1];
  I winner[chosen ? out : 1];
  F x[Z::padded ? padded : 1];         // the input with padding
  F x2[Z::S.weighted() ? squared : 1];  // its square
};

// Buffers that all samples share; they are initially zero, and padding is never written.
template <int I>
struct Scratch {
  F d[gradient_size<I>()], d2[gradient_size<I>()];
  F dx[Sizes<I>::padded && I > 0 ? Tape<I>::padded : 1];
};

template <class>
struct AllOf;
template <int... I>
struct AllOf<std::integer_sequence<int, I...>> {
  struct Tapes : Tape<I>... {};
  struct Scratches : Scratch<I>... {};
};
using Lanes = AllOf<std::make_integer_sequence<int, kHead>>;

// One sample of kLanes members.
struct Sample {
  F x[kHead ? kInputs : 1];
  Lanes::Tapes tapes;
};

struct LaneParameters {
  F values[kLaneParameters ? kLaneParameters : 1], gradients[kLaneParameters ? kLaneParameters : 1];
};

template <int I>
const F* stage_input(const Sample& s) {
  if constexpr (I == 0)
    return s.x;
  else
    return static_cast<const Tape<I - 1>&>(s.tapes).y;
}

// Copies [H][W][C] to or from the inside of an array with padding.
template <int I>
void copy_padded(F* padded, F* inner, bool inward) {
  using Z = Sizes<I>;
  constexpr int row = Z::in.w * Z::in.c;
  for (int h = 0; h < Z::in.h; ++h) {
    F* outer = padded + ((h + Z::S.top) * Z::W + Z::S.left) * Z::in.c;
    F* plain = inner + h * row;
    for (int i = 0; i < row; ++i)
      if (inward)
        outer[i] = plain[i];
      else
        plain[i] = outer[i];
  }
}

template <bool Train, bool Variational, int I>
void forward_stage(Sample& s, const LaneParameters& p, const Step& step, uint32_t b) {
  using Z = Sizes<I>;
  Tape<I>& t = s.tapes;
  const F* x = stage_input<I>(s);
  const auto values = [&](int leaf) { return p.values + leaf_start(leaf); };
  constexpr int layer = layers_before(I);
  if constexpr (Z::padded) copy_padded<I>(t.x, const_cast<F*>(x), true), x = t.x;
  if constexpr (Variational && Z::S.weighted()) square(x, Tape<I>::squared, t.x2);
  if constexpr (Z::S.kind == kConv) {
    ConvOf<I>::template forward<Train, Variational>(
        x, t.x2, leaves<Weights, layer>(values), activator<I>(step), step.noise.of(Z::S.slot), b,
        t.y, t.winner, t.slope, t.by_variance);
  } else {
    if constexpr (Z::S.kind == kDense)
      DenseOf<I>::template forward<Variational>(x, t.x2, leaves<Weights, layer>(values),
                                                step.noise.of(Z::S.slot), b, t.y, t.by_variance);
    else if constexpr (Z::S.kind == kMaxPool)
      MaxPoolOf<I>::template forward<Train>(x, t.y, t.winner);
    else if constexpr (Z::S.kind == kAveragePool)
      AveragePoolOf<I>::forward(x, t.y);
    else
      std::copy_n(x, Tape<I>::out, t.y);
    activate_all<I, Train>(step, Tape<I>::out, t.y, t.slope);
  }
  if constexpr (Train) drop_all<I>(step, b, t.y, t.slope);
}

// Computes the outputs of the stages before the head.
template <bool Train, bool Variational, int First = 0>
void forward_lanes(Sample& s, const LaneParameters& p, const Step& step, uint32_t b) {
  if constexpr (First < kHead) {
    forward_stage<Train, Variational, First>(s, p, step, b);
    forward_lanes<Train, Variational, First + 1>(s, p, step, b);
  }
}

template <bool Variational, int I>
void backward_stage(Sample& s, LaneParameters& p, Lanes::Scratches& scratches) {
  using Z = Sizes<I>;
  Tape<I>& t = s.tapes;
  const F* x = stage_input<I>(s);
  if constexpr (Z::padded) x = t.x;
  F* dx = nullptr;
  if constexpr (I > 0) dx = static_cast<Tape<I - 1>&>(s.tapes).dy;
  const auto values = [&](int leaf) -> const F* { return p.values + leaf_start(leaf); };
  const auto gradients = [&](int leaf) { return p.gradients + leaf_start(leaf); };
  constexpr int layer = layers_before(I);
  if constexpr (Z::S.kind == kConv) {
    Scratch<I>& scratch = scratches;
    ConvOf<I>::template backward<Variational, Z::S.sloped()>(
        x, t.x2, leaves<Weights, layer>(values), t.dy, t.winner, t.slope, t.by_variance,
        leaves<Gradients, layer>(gradients), scratch.d, scratch.d2,
        Z::padded ? scratch.dx : dx);
    if constexpr (Z::padded && I > 0) copy_padded<I>(scratch.dx, dx, false);
  } else {
    if constexpr (Z::S.sloped())
      for (int o = 0; o < Tape<I>::out; ++o) t.dy[o] *= t.slope[o];
    if constexpr (Z::S.kind == kDense)
      DenseOf<I>::template backward<Variational>(x, t.x2, leaves<Weights, layer>(values), t.dy,
                                                 t.by_variance,
                                                 leaves<Gradients, layer>(gradients), dx);
    else if constexpr (I > 0 && Z::S.kind == kMaxPool)
      MaxPoolOf<I>::backward(t.dy, t.winner, dx);
    else if constexpr (I > 0 && Z::S.kind == kAveragePool)
      AveragePoolOf<I>::backward(t.dy, dx);
    else if constexpr (I > 0)
      std::copy_n(t.dy, Tape<I>::out, dx);
  }
}

// Adds to the gradients, from the gradient `dy` of the last stage before the head.
template <bool Variational, int Last = kHead - 1>
void backward_lanes(Sample& s, LaneParameters& p, Lanes::Scratches& scratches) {
  if constexpr (Last >= 0) {
    backward_stage<Variational, Last>(s, p, scratches);
    backward_lanes<Variational, Last - 1>(s, p, scratches);
  }
}

// The outputs of the stages before the head and their gradient; null without such stages.
template <int Last = kHead - 1>
F* lane_outputs(Sample& s) {
  if constexpr (Last >= 0)
    return static_cast<Tape<Last>&>(s.tapes).y;
  else
    return nullptr;
}
template <int Last = kHead - 1>
F* lane_gradient(Sample& s) {
  if constexpr (Last >= 0)
    return static_cast<Tape<Last>&>(s.tapes).dy;
  else
    return nullptr;
}

}  // namespace
