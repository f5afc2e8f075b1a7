// One training step of a group of members: loss and gradients.
#pragma once

#include "check.h"
#include "head.h"
#include "losses.h"
#include "network.h"
#include "pack.h"
#include "points.h"

namespace {

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

// The targets of the loss; see losses.h.
struct Objective {
  Loss loss;
  const float* weights;   // [members][batch]; null with cotangents
  const int32_t* labels;  // [images]
  const float* rows;      // [members][images][outputs], or cotangents [members][batch][outputs]
  int64_t images;

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

// Without a head: one member per lane, one sample at a time.
template <bool Variational>
void train_lanes(int g, Workspace& s, const Call& call, const Objective& objective,
                 const Results& results) {
  call.pack_parameters(g, Variational, s.parameters.values);
  std::fill_n(s.parameters.gradients, leaf_start(leaves_of(Variational)), F{});
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
  if constexpr (kHead > 0) {
    call.pack_parameters(g, Variational, s.parameters.values);
    std::fill_n(s.parameters.gradients, leaf_start(leaves_of(Variational)), F{});
  }
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
  for (int i = 0; i < leaves_of(Variational); ++i)
    if (leaf_layer(i) < kLaneLayers)
      unpack(s.parameters.gradients + leaf_start(i), leaf_size(i), g, call.members,
             results.gradients[i]);
}

}  // namespace
