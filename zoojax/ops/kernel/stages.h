// The chain that is compiled, given by macros of integers:
//   ZOOJAX_INPUT = height, width, channels of an image;
//   ZOOJAX_STAGES = {a StageSpec}, ...;
//   ZOOJAX_HEAD = the first stage of the head;
//   ZOOJAX_POINTS = whether all stages process many samples of one member at a time (see points.h);
//   ZOOJAX_ADAM = whether training can take the step of Adam (see adam.h).
// Stages before the head have one member per lane. The head consists of fully connected layers
// whose weights would not fit the cache for all lanes at once: there, members run one after the
// other, with one sample per lane.
#pragma once

#include <utility>

#include "activations.h"
#include "conv.h"

// Everything that depends on the chain is local: the libraries of several chains are loaded into one
// process.
namespace {

enum Kind { kConv, kDense, kMaxPool, kAveragePool, kElementwise };

// One operation, the activation and the dropout after it. Fields that a kind lacks are zero.
struct StageSpec {
  int kind, features;
  int kernel_h, kernel_w, stride_h, stride_w, top, bottom, left, right;
  int pool;          // side of the max pooling that is fused with a convolution: 1 or 2
  int pooled_noise;  // whether the convolution's noise is laid out by pooling windows
  int order;         // a PoolingOrder
  int activation;    // a value of Activation
  uint32_t parameter;  // of the activation, as the bits of a float
  int slot;            // noise slot of the layer
  int dropout;         // noise slot of the dropout; -1 without
  int flat_dropout;    // whether the dropout's noise is laid out for a vector

  constexpr bool weighted() const { return kind == kConv || kind == kDense; }
  constexpr bool sloped() const { return activation != kNone || dropout >= 0; }
};

struct Shape {
  int h, w, c;
  constexpr int size() const { return h * w * c; }
};

constexpr Shape kInput{ZOOJAX_INPUT};
constexpr StageSpec kStages[] = {ZOOJAX_STAGES};
constexpr int kCount = sizeof kStages / sizeof kStages[0];
constexpr int kHead = ZOOJAX_HEAD;
static_assert(kHead >= 0 && kHead <= kCount);
constexpr bool kPoints = ZOOJAX_POINTS;
static_assert(!kPoints || kHead == 0);
constexpr bool kHasHead = kHead < kCount && !kPoints;
constexpr bool kTakesSteps = ZOOJAX_ADAM;
static_assert(!kTakesSteps || kHasHead);

// Shape of the input of a stage, or of the outputs for kCount.
constexpr Shape shape_before(int stage) {
  Shape shape = kInput;
  for (int i = 0; i < stage; ++i) {
    const StageSpec& s = kStages[i];
    if (s.kind == kDense) {
      shape = {1, 1, s.features};
    } else if (s.kind != kElementwise) {
      const int pool = s.kind == kConv ? s.pool : 1;
      shape.h = ((shape.h + s.top + s.bottom - s.kernel_h) / s.stride_h + 1) / pool;
      shape.w = ((shape.w + s.left + s.right - s.kernel_w) / s.stride_w + 1) / pool;
      if (s.kind == kConv) shape.c = s.features;
    }
  }
  return shape;
}
constexpr int kInputs = kInput.size(), kOutputs = shape_before(kCount).size();

// The leaves passed from Python, in order: kernel and bias of each layer; then, with variational
// dropout, the variances of all kernels and of the convolutions' biases.
constexpr int layers_before(int stage) {
  int layers = 0;
  for (int i = 0; i < stage; ++i) layers += kStages[i].weighted();
  return layers;
}
constexpr int count_convs() {
  int convs = 0;
  for (const StageSpec& s : kStages) convs += s.kind == kConv;
  return convs;
}
constexpr int kLayers = layers_before(kCount), kConvs = count_convs();
constexpr int kLaneLayers = layers_before(kHead);  // before the head
constexpr int kDenseLeaves = 2 * kLayers, kVariances = kLayers + kConvs;
constexpr int leaves_of(bool variational) { return kDenseLeaves + (variational ? kVariances : 0); }

constexpr int stage_of(int layer) {
  int stage = 0;
  while (layers_before(stage + 1) <= layer) ++stage;
  return stage;
}
constexpr int leaf_layer(int leaf) {
  return leaf < kDenseLeaves ? leaf / 2 : (leaf - kDenseLeaves) % kLayers;
}
constexpr bool is_bias(int leaf) {
  return leaf < kDenseLeaves ? leaf % 2 : leaf >= kDenseLeaves + kLayers;
}
constexpr int leaf_size(int leaf) {
  const int stage = stage_of(leaf_layer(leaf));
  const StageSpec& s = kStages[stage];
  if (is_bias(leaf)) return s.features;
  const Shape in = shape_before(stage);
  return s.features * (s.kind == kDense ? in.size() : s.kernel_h * s.kernel_w * in.c);
}
// Start of a leaf in an array of all leaves before the head.
constexpr int leaf_start(int leaf) {
  int start = 0;
  for (int i = 0; i < leaf; ++i) start += leaf_layer(i) < kLaneLayers ? leaf_size(i) : 0;
  return start;
}
constexpr int kLaneParameters = leaf_start(kDenseLeaves + kVariances);
// Start of a leaf in an array of all leaves of the head.
constexpr int head_start(int leaf) {
  int start = 0;
  for (int i = 0; i < leaf; ++i) start += leaf_layer(i) < kLaneLayers ? 0 : leaf_size(i);
  return start;
}
constexpr int kHeadParameters = kTakesSteps ? head_start(kDenseLeaves + kVariances) : 1;
constexpr int largest_lane_leaf() {
  int most = 1;
  for (int i = 0; i < kDenseLeaves + kVariances; ++i)
    if (leaf_layer(i) < kLaneLayers && leaf_size(i) > most) most = leaf_size(i);
  return most;
}
// Start of a leaf in an array of all leaves.
constexpr int point_start(int leaf) {
  int start = 0;
  for (int i = 0; i < leaf; ++i) start += leaf_size(i);
  return start;
}
constexpr int kPointParameters = kPoints ? point_start(kDenseLeaves + kVariances) : 1;

// Leaves of one layer; `at` gives the pointer to a leaf.
template <class Leaves, int Layer, class At>
inline Leaves leaves(const At& at) {
  return {at(2 * Layer), at(2 * Layer + 1), at(kDenseLeaves + Layer),
          Layer < kConvs ? at(kDenseLeaves + kLayers + Layer) : nullptr};
}

// What differs between calls and members.
struct Step {
  int activation;  // the member's own
  bool dropout;
  Noise noise;
  F rate;
};

template <int I>
auto activator(const Step& step) {
  return Activator<kStages[I].activation, kStages[I].parameter>{step.activation};
}

// The activation of a stage, elementwise.
template <int I, bool Train>
void activate_all(const Step& step, int size, F* y, F* slope) {
  const auto act = activator<I>(step);
  if constexpr (decltype(act)::kAny)
    act.template apply_all<Train>(size, y, slope);
}

// Applies inverted dropout to the output and slope of a stage.
//   in_batch: position of the sample in the batch; one number, or one per lane.
template <class Position>
void drop(const Step& step, int slot, Position in_batch, int pixels, int features, F* y,
          F* slope) {
  const Noise noise = step.noise.of(slot);
  const F keep = 1.f - step.rate, scale = 1.f / keep;
  const int half = (features + 1) / 2;
  for (int i = 0; i < pixels; ++i)
    for (int o = 0; o < half; ++o) {
      U words[2];
      noise.words((in_batch * pixels + i) * half + o, words[0], words[1]);
      for (int k = 0; k < 2 && o + k * half < features; ++k) {
        const int at = i * features + o + k * half;
        const I kept = __builtin_convertvector(words[k] >> 8, F) * 0x1p-24f < keep;
        y[at] = kept ? y[at] * scale : F{};
        slope[at] = kept ? slope[at] * scale : F{};
      }
    }
}

// The dropout of a stage. Without an activation, the slope is one before.
template <int I, class Position>
void drop_all(const Step& step, Position in_batch, F* y, F* slope) {
  constexpr Shape out = shape_before(I + 1);
  if constexpr (kStages[I].dropout >= 0) {
    if constexpr (kStages[I].activation == kNone)
      for (int o = 0; o < out.size(); ++o) slope[o] = splat(1.f);
    constexpr bool flat = kStages[I].flat_dropout != 0;
    if (step.dropout)
      drop(step, kStages[I].dropout, in_batch, flat ? 1 : out.h * out.w,
           flat ? out.size() : out.c, y, slope);
  }
}

inline void square(const F* x, int n, F* x2) {
  for (int i = 0; i < n; ++i) x2[i] = x[i] * x[i];
}

}  // namespace
