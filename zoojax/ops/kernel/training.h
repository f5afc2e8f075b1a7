// One training step of a group of members: loss and gradients.
#pragma once

#include "adam.h"
#include "call.h"
#include "losses.h"
#include "variational.h"

namespace {

// Results of a training step: with Adam the parameters after it, otherwise their gradients.
struct Results {
  float *loss, *correct;
  float* gradients[kDenseLeaves + kVariances];
  const Adam* adam;  // null without a step

  // Where the gradient of a leaf of the head is written. The workspace holds that of one member, or
  // of all members of the group, with one in each slot.
  float* head_gradient(Workspace& s, int leaf, int m, int slot) const {
    if (kTakesSteps && adam) return s.head_gradients[slot] + head_start(leaf);
    return gradients[leaf] + int64_t(m) * leaf_size(leaf);
  }
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
  const float* rows;      // [members][images][outputs], or cotangents [members][batch][outputs]
  int64_t images;

  bool penalizes(int leaf) const {
    return leaf >= kDenseLeaves && penalty != kNoPenalty &&
           (penalty == kPenalizeBiases || !is_bias(leaf));
  }
  float weight(const Call& call, int m, int b) const {
    return weights ? weights[int64_t(m) * call.batch + b] : 1.f;
  }
  void set(Targets& targets, int lane, const Call& call, int m, int b) const {
    const int64_t image = call.image(m, b);
    if (loss == kCrossEntropy)
      targets.label[lane] = labels[image];
    else
      targets.row[lane] = rows + kOutputs * (loss == kCotangent ? int64_t(m) * call.batch + b
                                                                : m * images + image);
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

// Adds the weighted KL divergence of the layers before the head to the losses, and the gradients that
// follow from it and from log sigma^2.
inline void penalize_lanes(int g, Workspace& s, const Call& call, const Objective& objective,
                           const Results& results) {
  F share;
  for (int l = 0; l < kLanes; ++l) share[l] = objective.kl_weight[call.member(g, l)];
  LongSum sum;
  for (int i = kDenseLeaves; i < leaves_of(true); ++i) {
    if (!objective.penalizes(i) || leaf_layer(i) >= kLaneLayers) continue;
    const int other = weights_of(i);
    const F *w = s.parameters.values + leaf_start(other), *from = s.log_sigma2 + leaf_start(i);
    F* by_weight = s.parameters.gradients + leaf_start(other);
    F* by_variance = s.parameters.gradients + leaf_start(i);
    for (int k = 0; k < leaf_size(i); ++k)
      sum.add(penalize(w[k], from[k], share, clip_of(i), by_weight[k], by_variance[k]));
  }
  const F kl = sum.total();
  for (int l = 0; l < call.valid(g); ++l) results.loss[call.member(g, l)] += share[l] * kl[l];
}

// The same for the head of one member.
inline void penalize_head(int m, int slot, Workspace& s, const Call& call,
                          const Objective& objective, const Results& results) {
  const float share = objective.kl_weight[m];
  for (int i = kDenseLeaves; i < leaves_of(true); ++i) {
    if (!objective.penalizes(i) || leaf_layer(i) < kLaneLayers) continue;
    const int size = leaf_size(i), other = weights_of(i);
    const int64_t from = int64_t(m) * size;
    const float kl =
        penalize_leaf(call.leaves[other] + from, call.leaves[i] + from, size, share, clip_of(i),
                      results.head_gradient(s, other, m, slot), results.head_gradient(s, i, m, slot));
    results.loss[m] += share * kl;
  }
}

// What follows the last sample of a member in the head: the KL divergence and the step of Adam.
template <bool Variational>
void finish_head(int m, int slot, Workspace& s, const Call& call, const Objective& objective,
                 const Results& results) {
  if (Variational && objective.penalty != kNoPenalty)
    penalize_head(m, slot, s, call, objective, results);
  if (kTakesSteps && results.adam)
    for (int i = 0; i < leaves_of(Variational); ++i)
      if (leaf_layer(i) >= kLaneLayers)
        results.adam->step(i, m, results.head_gradient(s, i, m, slot));
}

// What follows the last sample in the layers before the head.
template <bool Variational>
void finish_lanes(int g, Workspace& s, const Call& call, const Objective& objective,
                  const Results& results) {
  if (Variational && objective.penalty != kNoPenalty)
    penalize_lanes(g, s, call, objective, results);
  for (int i = 0; i < leaves_of(Variational); ++i) {
    if (leaf_layer(i) >= kLaneLayers) continue;
    const F* gradient = s.parameters.gradients + leaf_start(i);
    if (!kTakesSteps || !results.adam) {
      unpack(gradient, leaf_size(i), g, call.members, results.gradients[i]);
      continue;
    }
    const int valid = call.valid(g);
    unpack(gradient, leaf_size(i), 0, valid, s.lane_gradients);
    for (int l = 0; l < valid; ++l)
      results.adam->step(i, call.member(g, l), s.lane_gradients + l * leaf_size(i));
  }
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
  // The gradient of one member is summed at a time, unless all members take turns.
  const bool turns = kHead > 0 && call.batch > kLanes;
  const auto finish = [&](int l) {
    const int m = call.member(g, l);
    results.loss[m] = loss_sum[l], results.correct[m] = correct_sum[l];
    finish_head<Variational>(m, turns ? l : 0, s, call, objective, results);
  };
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
          p.gradients[i] = results.head_gradient(s, i, m, turns ? l : 0);
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
      if (kHead > 0 && !turns) finish(l);
    }
    if constexpr (kHead > 0)
      for (int k = 0; k < count; ++k)
        backward_lanes<Variational>(s.samples[k], s.parameters, s.scratches);
    add = true;
  }
  if (kHead == 0 || turns)
    for (int l = 0; l < valid; ++l) finish(l);
}

// Calls use(vectors, batch position of the first sample, in_batch) for the tiles of a batch, of
// about equal size, whose inputs it copies. Unused lanes repeat the last sample.
template <class Use>
void for_tiles(Points& points, const Call& call, int m, const Use& use) {
  const int vectors = (call.batch + kLanes - 1) / kLanes, tiles = (vectors + kTile - 1) / kTile;
  for (int tile = 0; tile < tiles; ++tile) {
    const int start = int(int64_t(vectors) * tile / tiles);
    const int count = int(int64_t(vectors) * (tile + 1) / tiles) - start;
    U in_batch[kTile];
    for (int k = 0; k < count; ++k) {
      const float* from[kLanes];
      for (int l = 0; l < kLanes; ++l) {
        const int b = std::min((start + k) * kLanes + l, call.batch - 1);
        from[l] = call.pixels(m, b);
        in_batch[k][l] = b;
      }
      pack_rows(from, kInputs, points.x + k * kInputs);
    }
    use(count, start * kLanes, in_batch);
  }
}

inline PointParameters point_parameters(const Call& call, int m, bool variational) {
  PointParameters p{};
  for (int i = 0; i < leaves_of(variational); ++i)
    p.values[i] = call.leaves[i] + int64_t(m) * leaf_size(i);
  return p;
}

// Many samples of one member at a time.
template <bool Variational>
void train_points(int m, Points& points, const Call& call, const Objective& objective,
                  const Results& results) {
  const PointParameters p = point_parameters(call, m, Variational);
  const Step step = call.member_step(m);
  std::fill_n(points.gradients, point_start(leaves_of(Variational)), F{});
  float total = 0.f;
  for (int b = 0; b < call.batch; ++b) total += objective.weight(call, m, b);
  F loss_sum = F{}, correct_sum = F{};
  for_tiles(points, call, m, [&](int count, int start, const U* in_batch) {
    points.forward<true, Variational>(count, p, step, in_batch);
    for (int k = 0; k < count; ++k) {
      F weight{}, loss;
      I answer;
      Targets targets;
      for (int l = 0; l < kLanes; ++l) {
        const int b = start + k * kLanes + l;
        objective.set(targets, l, call, m, std::min(b, call.batch - 1));
        if (b < call.batch) weight[l] = objective.weight(call, m, b);
      }
      const F share = weight / total;
      F* gradient = points.gradient() + k * kOutputs;
      differentiate(objective.loss, points.outputs() + k * kOutputs, targets, share, loss, answer,
                    gradient);
      // The cotangents of unused lanes are those of the last sample.
      if (objective.loss == kCotangent)
        for (int o = 0; o < kOutputs; ++o) gradient[o] = weight != 0.f ? gradient[o] : F{};
      loss_sum += loss * share;
      correct_sum += answer == targets.label ? weight : F{};
    }
    points.backward<Variational>(count, p);
  });
  sum_lanes(&loss_sum, 1, results.loss + m);
  sum_lanes(&correct_sum, 1, results.correct + m);
  for (int i = 0; i < leaves_of(Variational); ++i)
    sum_lanes(points.gradients + point_start(i), leaf_size(i),
              results.gradients[i] + int64_t(m) * leaf_size(i));
}

template <bool Variational>
void train_group(int g, Workspace& s, const Call& call, const Objective& objective,
                 const Results& results) {
  if constexpr (kPoints) {
    train_points<Variational>(g, s.points, call, objective, results);
    return;
  }
  if constexpr (kHasHead)
    train_head<Variational>(g, s, call, objective, results);
  else
    train_lanes<Variational>(g, s, call, objective, results);
  if constexpr (kHead > 0) finish_lanes<Variational>(g, s, call, objective, results);
}

}  // namespace
