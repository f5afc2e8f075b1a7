// Losses of the outputs. A lane is a member or a sample.
#pragma once

#include "stages.h"

namespace {

// In the order of LOSSES in lowering.py. kSquaredError: the targets are a member's own. kCotangent:
// the gradient of the outputs is given.
enum Loss { kCrossEntropy, kSquaredError, kCotangent, kLosses };

// Cross entropy, predicted class and softmax of a sample.
inline void classify(const F* logits, I label, F& loss, I& answer, F* softmax) {
  F best = logits[0], sum = F{}, right = F{};
  answer = I{};
  for (int o = 1; o < kOutputs; ++o) {
    const I better = (logits[o] > best) | (is_nan(logits[o]) & ~is_nan(best));
    best = better ? logits[o] : best;
    answer = better ? I{} + o : answer;
  }
  for (int o = 0; o < kOutputs; ++o) {
    softmax[o] = exp(logits[o] - best);
    sum += softmax[o];
    right = label == o ? logits[o] : right;
  }
  for (int o = 0; o < kOutputs; ++o) softmax[o] /= sum;
  loss = log(sum) + best - right;
}

// The targets of a sample: a label, or a row of numbers, per lane. Without labels, no answer equals
// the label: the answer is -1 then.
struct Targets {
  I label = I{};
  const float* row[kLanes];
};

// Loss of a sample, and its gradient times `share`, the sample's share of the mean.
inline void differentiate(Loss kind, const F* outputs, const Targets& targets, F share, F& loss,
                          I& answer, F* gradient) {
  loss = F{};
  answer = I{} - 1;
  if (kind == kCrossEntropy) {
    classify(outputs, targets.label, loss, answer, gradient);
    for (int o = 0; o < kOutputs; ++o)
      gradient[o] = (gradient[o] - (targets.label == o ? splat(1.f) : F{})) * share;
    return;
  }
  for (int o = 0; o < kOutputs; ++o) {
    F target;
    for (int l = 0; l < kLanes; ++l) target[l] = targets.row[l][o];
    if (kind == kCotangent) {
      gradient[o] = target;
    } else {
      const F difference = outputs[o] - target;
      loss += difference * difference;
      gradient[o] = difference * share * (2.f / kOutputs);
    }
  }
  loss *= 1.f / kOutputs;
}

}  // namespace
