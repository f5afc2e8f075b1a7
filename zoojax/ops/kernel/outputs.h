// Forward passes of a group of members, without gradients.
#pragma once

#include "training.h"

namespace {

// Calls samples(0, b, count, outputs) with the outputs of `count` samples of a member from b.
template <bool Train, bool Variational, class OfSamples>
void point_outputs(int m, Points& points, const Call& call, const OfSamples& samples) {
  const PointParameters p = point_parameters(call, m, Variational);
  const Step step = call.member_step(m);
  for_tiles(points, call, m, [&](int count, int start, const U* in_batch) {
    points.forward<Train, Variational>(count, p, step, in_batch);
    for (int k = 0; k < count; ++k) {
      const int b = start + k * kLanes;
      samples(0, b, std::min(kLanes, call.batch - b), points.outputs() + k * kOutputs);
    }
  });
}

// Calls use(member lane or sample lane, ...) with the outputs of each sample:
//   lanes(b, outputs): without a head, the outputs of sample b with one member per lane;
//   samples(l, b, count, outputs): otherwise, those of `count` samples from b of the member in l.
template <bool Train, bool Variational, class OfLanes, class OfSamples>
void for_outputs(int g, Workspace& s, const Call& call, const OfLanes& lanes,
                 const OfSamples& samples) {
  if constexpr (kPoints) {
    point_outputs<Train, Variational>(g, s.points, call, samples);
    return;
  }
  const Step step = call.lane_step(g);
  call.pack_parameters(g, Variational, s.parameters.values);
  for (int b = 0; b < call.batch; b += kSamples) {
    int at[kLanes];
    const int count = std::min(kSamples, call.batch - b);
    for (int k = 0; k < count; ++k) at[k] = b + k;
    forward_samples<Train, Variational>(g, s, call, step, at, count);
    if constexpr (kHasHead) {
      for (int l = 0; l < call.valid(g); ++l) {
        const int m = call.member(g, l);
        const InputRows rows = head_rows<Variational>(s, call, m, l, at, count);
        s.head.template forward<Train, Variational>(rows, count,
                                                    call.head_parameters(m, Variational),
                                                    call.member_step(m), positions(at, count));
        samples(l, b, count, s.head.outputs());
      }
    } else {
      lanes(b, lane_outputs(s.samples[0]));
    }
  }
}

// Stores the outputs, [members][batch][outputs].
template <bool Train, bool Variational>
void store_outputs(int g, Workspace& s, const Call& call, float* to) {
  const auto store = [&](int m, int b, const F* outputs, int lane) {
    float* row = to + (int64_t(m) * call.batch + b) * kOutputs;
    for (int o = 0; o < kOutputs; ++o) row[o] = outputs[o][lane];
  };
  for_outputs<Train, Variational>(
      g, s, call,
      [&](int b, const F* outputs) {
        for (int l = 0; l < call.valid(g); ++l) store(call.member(g, l), b, outputs, l);
      },
      [&](int l, int b, int count, const F* outputs) {
        for (int k = 0; k < count; ++k) store(call.member(g, l), b + k, outputs, k);
      });
}

// Sums of the cross entropy and of correct predictions, and the predictions [members][images].
inline void evaluate_group(int g, Workspace& s, const Call& call, const int32_t* labels,
                           float* loss, float* correct, int32_t* answers) {
  constexpr int kPartial = 64;
  // Summed in parts, so that small losses are not lost to rounding in a large sum.
  F sums[kGroup] = {}, parts[kGroup] = {}, softmax[kOutputs];
  I corrects[kGroup] = {};
  const auto answer_row = [&](int l) { return answers + int64_t(call.member(g, l)) * call.batch; };
  for_outputs<false, false>(
      g, s, call,
      [&](int n, const F* outputs) {
        F value;
        I answer;
        classify(outputs, I{} + labels[n], value, answer, softmax);
        parts[0] += value;
        corrects[0] -= answer == labels[n];  // true is -1
        for (int l = 0; l < call.valid(g); ++l) answer_row(l)[n] = answer[l];
        if (n % kPartial == kPartial - 1) sums[0] += parts[0], parts[0] = F{};
      },
      [&](int l, int n, int count, const F* outputs) {
        F value;
        I answer, label{}, used{};
        for (int k = 0; k < count; ++k) label[k] = labels[n + k], used[k] = -1;
        classify(outputs, label, value, answer, softmax);
        parts[l] += used ? value : F{};
        corrects[l] -= (answer == label) & used;
        for (int k = 0; k < count; ++k) answer_row(l)[n + k] = answer[k];
        if (n % (kPartial * kLanes) == 0) sums[l] += parts[l], parts[l] = F{};
      });
  if (kHasHead || kPoints) {
    for (int l = 0; l < call.valid(g); ++l) {
      const int m = call.member(g, l);
      loss[m] = correct[m] = 0.f;
      for (int k = 0; k < kLanes; ++k) {
        loss[m] += sums[l][k] + parts[l][k];
        correct[m] += float(corrects[l][k]);
      }
    }
  } else {
    sums[0] += parts[0];
    const F right = __builtin_convertvector(corrects[0], F);
    unpack(&sums[0], 1, g, call.members, loss);
    unpack(&right, 1, g, call.members, correct);
  }
}

}  // namespace
