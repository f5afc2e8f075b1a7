// What training and the forward pass of a group of members share: workspace, operands, samples.
#pragma once

#include "check.h"
#include "head.h"
#include "network.h"
#include "pack.h"
#include "points.h"

namespace {

constexpr int count_head_variances() {
  int size = 0;
  for (int i = kDenseLeaves; i < leaves_of(true); ++i)
    if (leaf_layer(i) >= kLaneLayers) size += leaf_size(i);
  return size;
}
constexpr int kHeadVariances = count_head_variances();

// Members of a group, and samples that are processed together. Without a head, each sample is
// passed forward and backward while its activations are in the cache. A head takes as many samples
// at once as there are lanes, and without stages before it, a group is one member.
constexpr int kGroup = kHead > 0 ? kLanes : 1, kSamples = kHasHead ? kLanes : 1;

struct Workspace {
  LaneParameters parameters;
  Lanes::Scratches scratches;
  Sample samples[kHead > 0 ? kSamples : 1];
  Head head;
  std::conditional_t<kPoints, Points, NoPoints> points;
  float squares[kHasHead && kHead == 0 ? kLanes : 1][kHead == 0 ? kInputs : 1];
  // Of variational dropout; the head's variances are those of one member.
  F log_sigma2[kLaneParameters ? kLaneParameters : 1];
  float variances[kHeadVariances ? kHeadVariances : 1];
  // Gradients of a step of Adam, by member: those of the head, and those of one leaf before it.
  float head_gradients[kTakesSteps ? kGroup : 1][kHeadParameters];
  float lane_gradients[kTakesSteps && kHead > 0 ? kLanes * largest_lane_leaf() : 1];
};

// Operands that training and the forward pass share.
struct Call {
  const float* images;
  const int32_t* index;  // [members][batch], or null: sample b is image b
  const uint32_t *key, *counter;
  const float* rate;
  int members, batch, activation;
  bool dropout;
  const float* leaves[kDenseLeaves + kVariances];

  int64_t image(int member, int b) const { return index ? index[int64_t(member) * batch + b] : b; }
  const float* pixels(int member, int b) const { return images + image(member, b) * kInputs; }

  // The member in a lane of a group; the last group is padded with the last member.
  int member(int group, int lane) const { return std::min(group * kGroup + lane, members - 1); }
  int valid(int group) const { return std::min(kGroup, members - group * kGroup); }

  void set(Step& step, int lane, int member) const {
    step.noise.key0[lane] = key[2 * member];
    step.noise.key1[lane] = key[2 * member + 1];
    step.noise.block[lane] = counter[member];
    step.rate[lane] = rate[member];
  }
  // One member per lane.
  Step lane_step(int group) const {
    Step step{activation, dropout, {}, {}};
    if (key)
      for (int l = 0; l < kLanes; ++l) set(step, l, member(group, l));
    return step;
  }
  // One member in all lanes.
  Step member_step(int member) const {
    Step step{activation, dropout, {}, {}};
    if (key)
      for (int l = 0; l < kLanes; ++l) set(step, l, member);
    return step;
  }

  void pack_parameters(int group, bool variational, F* to) const {
    for (int i = 0; i < leaves_of(variational); ++i)
      if (leaf_layer(i) < kLaneLayers)
        pack(leaves[i], leaf_size(i), group, members, to + leaf_start(i));
  }
  HeadParameters head_parameters(int member, bool variational) const {
    HeadParameters p{};
    for (int i = 0; i < leaves_of(variational); ++i)
      if (leaf_layer(i) >= kLaneLayers) p.values[i] = leaves[i] + int64_t(member) * leaf_size(i);
    return p;
  }

  // Copies a sample of a group into lanes.
  void pack_sample(int group, int b, F* x) const {
    const float* from[kLanes];
    bool same = true;
    for (int l = 0; l < kLanes; ++l) {
      from[l] = pixels(member(group, l), b);
      same &= from[l] == from[0];
    }
    if (same)
      for (int i = 0; i < kInputs; ++i) x[i] = splat(from[0][i]);
    else
      pack_rows(from, kInputs, x);
  }
};

// Forward passes of the stages before the head, for the samples at the given positions.
template <bool Train, bool Variational>
void forward_samples(int g, Workspace& s, const Call& call, const Step& step, const int* at,
                     int count) {
  if constexpr (kHead > 0)
    for (int k = 0; k < count; ++k) {
      call.pack_sample(g, at[k], s.samples[k].x);
      forward_lanes<Train, Variational>(s.samples[k], s.parameters, step, at[k]);
      // The squares of the head's inputs are computed in place of the gradient, which comes later.
      if constexpr (Variational && kHasHead)
        square(lane_outputs(s.samples[k]), shape_before(kHead).size(),
               lane_gradient(s.samples[k]));
    }
}

// The head's inputs of the member in lane l, for the samples at the given positions.
template <bool Variational>
InputRows head_rows(Workspace& s, const Call& call, int member, int l, const int* at, int count) {
  InputRows rows;
  for (int k = 0; k < kRows; ++k) {
    const int sample = k < count ? k : 0;
    if constexpr (kHead > 0) {
      rows.x[k] = reinterpret_cast<const float*>(lane_outputs(s.samples[sample])) + l;
      rows.x2[k] = reinterpret_cast<const float*>(lane_gradient(s.samples[sample])) + l;
    } else {
      rows.x[k] = call.pixels(member, at[sample]);
      rows.x2[k] = s.squares[sample];
      if (Variational && k < count)
        for (int i = 0; i < kInputs; ++i) s.squares[k][i] = rows.x[k][i] * rows.x[k][i];
    }
  }
  return rows;
}

inline U positions(const int* at, int count) {
  U in_batch{};
  for (int k = 0; k < count; ++k) in_batch[k] = at[k];
  return in_batch;
}

}  // namespace
