// One training step of a group of members: loss and gradients.
#pragma once

#include "check.h"
#include "head.h"
#include "losses.h"
#include "network.h"
#include "pack.h"
#include "variational.h"

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
  F log_sigma2[kLaneParameters ? kLaneParameters : 1];
  float variances[kHeadVariances ? kHeadVariances : 1];  // of the head, of one member
  Lanes::Scratches scratches;
  Sample samples[kHead > 0 ? kSamples : 1];
  Head head;
  float squares[kHasHead && kHead == 0 ? kLanes : 1][kHead == 0 ? kInputs : 1];
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

// Results of a training step.
struct Results {
  float *loss, *correct;
  float* gradients[kDenseLeaves + kVariances];
};

// The part of variational dropout that the kernel computes: nothing, or variances and KL divergence
// from log sigma^2, which is passed in place of the variances. The biases of convolutions may be
// variational as well.
enum Penalty { kNoPenalty, kPenalizeKernels, kPenalizeBiases, kPenalties };

// The targets of the loss; see losses.h.
struct Objective {
  Loss loss;
  Penalty penalty;
  const float* kl_weight;   // [members]; null without a penalty
  const float* weights;   // [members][batch]; null with cotangents
  const int32_t* labels;  // [images]
  const float* rows;      // [images][outputs], or cotangents [members][batch][outputs]

  bool penalizes(int leaf) const {
    return leaf >= kDenseLeaves && penalty != kNoPenalty &&
           (penalty == kPenalizeBiases || !is_bias(leaf));
  }
  float weight(const Call& call, int m, int b) const {
    return weights ? weights[int64_t(m) * call.batch + b] : 1.f;
  }
  void set(Targets& targets, int lane, const Call& call, int m, int b) const {
    const int64_t row = loss == kCotangent ? int64_t(m) * call.batch + b : call.image(m, b);
    if (loss == kCrossEntropy)
      targets.label[lane] = labels[row];
    else
      targets.row[lane] = rows + row * kOutputs;
  }
};

// The leaf of the weights that a leaf of variances belongs to.
constexpr int weights_of(int leaf) { return 2 * leaf_layer(leaf) + is_bias(leaf); }

// Loads the parameters of the layers before the head, and sets their gradients to zero.
template <bool Variational>
void start_lanes(int g, Workspace& s, const Call& call, const Objective& objective) {
  F* values = s.parameters.values;
  call.pack_parameters(g, Variational, values);
  std::fill_n(s.parameters.gradients, leaf_start(leaves_of(Variational)), F{});
  for (int i = kDenseLeaves; i < leaves_of(Variational); ++i)
    if (objective.penalizes(i) && leaf_layer(i) < kLaneLayers) {
      const F* w = values + leaf_start(weights_of(i));
      for (int k = leaf_start(i); k < leaf_start(i) + leaf_size(i); ++k, ++w) {
        s.log_sigma2[k] = values[k];
        values[k] = Spread(*w, s.log_sigma2[k], clip_of(i)).variance(*w, clip_of(i));
      }
    }
}

// Replaces the variances of the head by those that follow from log sigma^2.
inline void head_variances(Workspace& s, const Objective& objective, HeadParameters& p) {
  float* to = s.variances;
  for (int i = kDenseLeaves; i < leaves_of(true); ++i)
    if (objective.penalizes(i) && leaf_layer(i) >= kLaneLayers) {
      leaf_variances(p.values[weights_of(i)], p.values[i], leaf_size(i), clip_of(i), to);
      p.values[i] = to;
      to += leaf_size(i);
    }
}

// Adds the weighted KL divergence to the losses, and the gradients that follow from it and from log
// sigma^2.
inline void penalize_group(int g, Workspace& s, const Call& call, const Objective& objective,
                           const Results& results) {
  F share;
  for (int l = 0; l < kLanes; ++l) share[l] = objective.kl_weight[call.member(g, l)];
  LongSum lanes;
  for (int i = kDenseLeaves; i < leaves_of(true); ++i) {
    if (!objective.penalizes(i)) continue;
    const int size = leaf_size(i), other = weights_of(i);
    if (leaf_layer(i) < kLaneLayers) {
      const F *w = s.parameters.values + leaf_start(other), *from = s.log_sigma2 + leaf_start(i);
      F* by_weight = s.parameters.gradients + leaf_start(other);
      F* by_variance = s.parameters.gradients + leaf_start(i);
      for (int k = 0; k < size; ++k)
        lanes.add(penalize(w[k], from[k], share, clip_of(i), by_weight[k], by_variance[k]));
    } else {
      for (int l = 0; l < call.valid(g); ++l) {
        const int m = call.member(g, l);
        const int64_t from = int64_t(m) * size;
        const float kl = penalize_leaf(call.leaves[other] + from, call.leaves[i] + from, size,
                                       share[l], clip_of(i), results.gradients[other] + from,
                                       results.gradients[i] + from);
        results.loss[m] += share[l] * kl;
      }
    }
  }
  const F kl = lanes.total();
  if constexpr (kHead > 0)
    for (int l = 0; l < call.valid(g); ++l) results.loss[call.member(g, l)] += share[l] * kl[l];
}

// Without a head: one member per lane, one sample at a time.
template <bool Variational>
void train_lanes(int g, Workspace& s, const Call& call, const Objective& objective,
                 const Results& results) {
  start_lanes<Variational>(g, s, call, objective);
  const Step step = call.lane_step(g);
  F total = F{}, loss_sum = F{}, correct_sum = F{};
  int of[kLanes];
  for (int l = 0; l < kLanes; ++l) {
    of[l] = call.member(g, l);
    for (int b = 0; b < call.batch; ++b) total[l] += objective.weight(call, of[l], b);
  }
  for (int b = 0; b < call.batch; ++b) {
    F weight;
    Targets targets;
    for (int l = 0; l < kLanes; ++l) {
      weight[l] = objective.weight(call, of[l], b);
      objective.set(targets, l, call, of[l], b);
    }
    if (!any(weight != 0.f)) continue;  // padding
    forward_samples<true, Variational>(g, s, call, step, &b, 1);
    F loss;
    I answer;
    const F share = weight / total;
    differentiate(objective.loss, lane_outputs(s.samples[0]), targets, share, loss, answer,
                  lane_gradient(s.samples[0]));
    loss_sum += loss * share;
    correct_sum += answer == targets.label ? weight : F{};
    backward_lanes<Variational>(s.samples[0], s.parameters, s.scratches);
  }
  unpack(&loss_sum, 1, g, call.members, results.loss);
  unpack(&correct_sum, 1, g, call.members, results.correct);
}

// With a head: as many samples at a time as there are lanes; in the head, one member at a time.
template <bool Variational>
void train_head(int g, Workspace& s, const Call& call, const Objective& objective,
                const Results& results) {
  const int valid = call.valid(g);
  const Step lane_step = call.lane_step(g);
  if constexpr (kHead > 0) start_lanes<Variational>(g, s, call, objective);
  float total[kGroup] = {}, loss_sum[kGroup] = {}, correct_sum[kGroup] = {};
  for (int l = 0; l < valid; ++l)
    for (int b = 0; b < call.batch; ++b)
      total[l] += objective.weight(call, call.member(g, l), b);
  bool add = false;
  for (int b = 0; b < call.batch;) {
    int at[kLanes], count = 0;
    for (; b < call.batch && count < kLanes; ++b) {
      bool used = false;  // not padding
      for (int l = 0; l < valid; ++l) used |= objective.weight(call, call.member(g, l), b) != 0.f;
      if (used) at[count++] = b;
    }
    // The last samples may all be padding; the first gradients are written in any case.
    if (count == 0 && add) continue;
    forward_samples<true, Variational>(g, s, call, lane_step, at, count);
    for (int l = 0; l < valid; ++l) {
      const int m = call.member(g, l);
      F weight = F{}, loss;
      I answer;
      Targets targets;
      for (int k = 0; k < kLanes; ++k) {
        objective.set(targets, k, call, m, k < count ? at[k] : 0);
        if (k < count) weight[k] = objective.weight(call, m, at[k]);
      }
      HeadParameters p = call.head_parameters(m, Variational);
      for (int i = 0; i < leaves_of(Variational); ++i)
        if (leaf_layer(i) >= kLaneLayers)
          p.gradients[i] = results.gradients[i] + int64_t(m) * leaf_size(i);
      if constexpr (Variational) head_variances(s, objective, p);
      const InputRows rows = head_rows<Variational>(s, call, m, l, at, count);
      s.head.template forward<true, Variational>(rows, count, p, call.member_step(m),
                                                 positions(at, count));
      const F share = weight / total[l];
      differentiate(objective.loss, s.head.outputs(), targets, share, loss, answer,
                    s.head.gradient());
      for (int k = 0; k < count; ++k) {
        loss_sum[l] += loss[k] * share[k];
        correct_sum[l] += answer[k] == targets.label[k] ? weight[k] : 0.f;
      }
      s.head.template backward<Variational>(rows, count, p, add);
      if constexpr (kHead > 0)
        for (int k = 0; k < count; ++k) {
          const F* x = lane_outputs(s.samples[k]);
          F* dx = lane_gradient(s.samples[k]);
          for (int i = 0; i < kHeadInputs; ++i)
            dx[i][l] = s.head.dx[i][k] +
                       (Variational ? 2.f * x[i][l] * s.head.dx2[i][k] : 0.f);
        }
    }
    if constexpr (kHead > 0)
      for (int k = 0; k < count; ++k)
        backward_lanes<Variational>(s.samples[k], s.parameters, s.scratches);
    add = true;
  }
  for (int l = 0; l < valid; ++l) {
    results.loss[call.member(g, l)] = loss_sum[l];
    results.correct[call.member(g, l)] = correct_sum[l];
  }
}

template <bool Variational>
void train_group(int g, Workspace& s, const Call& call, const Objective& objective,
                 const Results& results) {
  if constexpr (kHasHead)
    train_head<Variational>(g, s, call, objective, results);
  else
    train_lanes<Variational>(g, s, call, objective, results);
  if (Variational && objective.penalty != kNoPenalty)
    penalize_group(g, s, call, objective, results);
  for (int i = 0; i < leaves_of(Variational); ++i)
    if (leaf_layer(i) < kLaneLayers)
      unpack(s.parameters.gradients + leaf_start(i), leaf_size(i), g, call.members,
             results.gradients[i]);
}

}  // namespace
