// Loss and gradients of a training step, outputs, and evaluation, for many members at once.
// Compiled for one chain of operations (see stages.h).

#include "check.h"
#include "outputs.h"
#include "parallel.h"
#include "training.h"

namespace {

// Limit on members, images and members * batch size, so that an int can count them with lanes.
constexpr int64_t kMost = INT32_MAX - 64;

int groups(int64_t members) { return int((members + kGroup - 1) / kGroup); }

// Checks what training and the forward pass share: images, index, noise, rate and leaves.
//   at: operands of the index and of the key; first: the first leaf.
void check_batch(Check& check, int64_t images, int64_t members, int64_t batch, int index, int key,
                 int first, bool variational, int activation) {
  check.require(images > 0 && images <= kMost, "number of images");
  check.require(batch > 0 && members > 0 && members <= kMost / std::max<int64_t>(batch, 2),
                "number of members");
  check.operand(0, ffi::F32, {images, kInput.h, kInput.w, kInput.c});
  check.operand(index, ffi::S32, {members, batch});
  check.operand(key, ffi::U32, {members, 2});
  check.operand(key + 1, ffi::U32, {members});
  check.operand(key + 2, ffi::F32, {members});
  for (int i = 0; i < leaves_of(variational); ++i) check.operand_leaf(first + i, members, i);
  check.require(activation >= 0 && activation < kActivations, "activation");
}

void check_index(Check& check, const Call& call, int64_t images) {
  for (int64_t i = 0; i < int64_t(call.members) * call.batch && check.ok(); ++i)
    check.below(call.index[i], images, "index");
}

Call make_call(const ffi::RemainingArgs& args, int64_t members, int64_t batch, int index, int key,
               int first, bool variational, int activation, bool dropout) {
  Call call{};
  call.images = operand<float>(args, 0);
  call.index = operand<int32_t>(args, index);
  call.key = operand<uint32_t>(args, key);
  call.counter = operand<uint32_t>(args, key + 1);
  call.rate = operand<float>(args, key + 2);
  call.members = int(members), call.batch = int(batch);
  call.activation = activation, call.dropout = dropout;
  for (int i = 0; i < leaves_of(variational); ++i) call.leaves[i] = operand<float>(args, first + i);
  return call;
}

// Operands: images, targets, index, weights, key, counter, rate, weight of the KL divergence, leaves;
// with Adam also both moments of all leaves, and AdamNumbers [members].
// Targets are labels [images], rows [members][images][outputs] or cotangents
// [members][batch][outputs]. The weight of the KL divergence is present with a penalty only.
// Results: loss, correct predictions, gradients of the leaves; with Adam, instead of the gradients,
// leaves and moments after the step.
ffi::Error run_training(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets,
                        int32_t loss, int32_t activation, bool dropout, bool variational,
                        int32_t penalty, int32_t threads, Adam* adam) {
  constexpr int kIndex = 2, kKey = 4, kShare = 7;
  const int kFirst = kShare + (penalty != kNoPenalty);
  const int64_t images = axis_size(args, 0, 0);
  const int64_t members = axis_size(args, kIndex, 0), batch = axis_size(args, kIndex, 1);
  const int leaves = leaves_of(variational), copies = adam ? 3 : 1;
  Check check(args, rets);
  check.require(!adam || kTakesSteps, "optimizer");
  check.counts(kFirst + copies * leaves + (adam != nullptr), 2 + copies * leaves);
  check.require(loss >= 0 && loss < kLosses, "loss");
  check.require(
      penalty == kNoPenalty || (penalty > 0 && penalty < kPenalties && variational && !kPoints),
      "penalty");
  check_batch(check, images, members, batch, kIndex, kKey, kFirst, variational, activation);
  if (loss == kCrossEntropy)
    check.operand(1, ffi::S32, {images});
  else if (loss == kSquaredError)
    check.operand(1, ffi::F32, {members, images, kOutputs});
  else
    check.operand(1, ffi::F32, {members, batch, kOutputs});
  check.operand(3, ffi::F32, {members, batch});
  if (penalty != kNoPenalty) check.operand(kShare, ffi::F32, {members});
  for (int i = 0; i < 2; ++i) check.result(i, ffi::F32, {members});
  for (int i = 0; i < copies * leaves; ++i) {
    check.operand_leaf(kFirst + i, members, i % leaves);
    check.result_leaf(2 + i, members, i % leaves);
  }
  if (adam) check.operand(kFirst + copies * leaves, ffi::F32, {members, kAdamNumbers});
  if (!check.ok()) return check.error();
  const Call call =
      make_call(args, members, batch, kIndex, kKey, kFirst, variational, activation, dropout);
  Objective objective{Loss(loss), Penalty(penalty), nullptr, operand<float>(args, 3), nullptr,
                      nullptr, images};
  if (penalty != kNoPenalty) objective.kl_weight = operand<float>(args, kShare);
  check_index(check, call, images);
  if (loss == kCrossEntropy) {
    objective.labels = operand<int32_t>(args, 1);
    for (int64_t i = 0; i < members * batch && check.ok(); ++i)
      check.below(objective.labels[call.index[i]], kOutputs, "label");
  } else {
    objective.rows = operand<float>(args, 1);
  }
  if (!check.ok()) return check.error();
  Results results{result<float>(rets, 0), result<float>(rets, 1), {}, adam};
  for (int i = 0; i < leaves; ++i) {
    results.gradients[i] = adam ? nullptr : result<float>(rets, 2 + i);
    if (!adam) continue;
    adam->values[i] = operand<float>(args, kFirst + i);
    adam->mean[i] = operand<float>(args, kFirst + leaves + i);
    adam->square[i] = operand<float>(args, kFirst + 2 * leaves + i);
    adam->new_values[i] = result<float>(rets, 2 + i);
    adam->new_mean[i] = result<float>(rets, 2 + leaves + i);
    adam->new_square[i] = result<float>(rets, 2 + 2 * leaves + i);
  }
  if (adam)
    adam->numbers =
        reinterpret_cast<const AdamNumbers*>(operand<float>(args, kFirst + copies * leaves));
  return for_each_group<Workspace>(groups(members), threads, pool, [&](int g, Workspace& s) {
    if (variational)
      train_group<true>(g, s, call, objective, results);
    else
      train_group<false>(g, s, call, objective, results);
  });
}

ffi::Error train(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets,
                 int32_t loss, int32_t activation, bool dropout, bool variational,
                 int32_t penalty, int32_t threads) {
  return run_training(pool, args, rets, loss, activation, dropout, variational, penalty, threads,
                      nullptr);
}

// Trains, and takes a step of Adam.
ffi::Error adam(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets,
                int32_t loss, int32_t activation, bool dropout, bool variational, int32_t penalty,
                double b1, double b2, double eps, int32_t threads) {
  Adam step{};
  step.b1 = float(b1), step.one_minus_b1 = float(1 - b1);
  step.b2 = float(b2), step.one_minus_b2 = float(1 - b2);
  step.eps = float(eps);
  return run_training(pool, args, rets, loss, activation, dropout, variational, penalty, threads,
                      &step);
}

// Operands: images, index, key, counter, rate, leaves. Result: the outputs of a training step.
ffi::Error outputs(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets,
                   int32_t activation, bool dropout, bool variational, int32_t threads) {
  constexpr int kIndex = 1, kKey = 2, kFirst = 5;
  const int64_t images = axis_size(args, 0, 0);
  const int64_t members = axis_size(args, kIndex, 0), batch = axis_size(args, kIndex, 1);
  Check check(args, rets);
  check.counts(kFirst + leaves_of(variational), 1);
  check_batch(check, images, members, batch, kIndex, kKey, kFirst, variational, activation);
  check.result(0, ffi::F32, {members, batch, kOutputs});
  if (!check.ok()) return check.error();
  const Call call =
      make_call(args, members, batch, kIndex, kKey, kFirst, variational, activation, dropout);
  check_index(check, call, images);
  if (!check.ok()) return check.error();
  float* to = result<float>(rets, 0);
  return for_each_group<Workspace>(groups(members), threads, pool, [&](int g, Workspace& s) {
    if (variational)
      store_outputs<true, true>(g, s, call, to);
    else if (dropout)
      store_outputs<true, false>(g, s, call, to);
    else
      store_outputs<false, false>(g, s, call, to);
  });
}

// Operands: images, labels, leaves. Results: summed cross entropy, number of correct predictions,
// predictions.
ffi::Error evaluate(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets,
                    int32_t activation, int32_t threads) {
  constexpr int kFirst = 2;
  const int64_t images = axis_size(args, 0, 0), members = axis_size(args, kFirst, 0);
  Check check(args, rets);
  check.counts(kFirst + kDenseLeaves, 3);
  check.require(images >= 0 && images <= kMost, "number of images");
  check.require(members > 0 && members <= kMost, "number of members");
  check.operand(0, ffi::F32, {images, kInput.h, kInput.w, kInput.c});
  check.operand(1, ffi::S32, {images});
  for (int i = 0; i < kDenseLeaves; ++i) check.operand_leaf(kFirst + i, members, i);
  for (int i = 0; i < 2; ++i) check.result(i, ffi::F32, {members});
  check.result(2, ffi::S32, {members, images});
  check.require(activation >= 0 && activation < kActivations, "activation");
  if (!check.ok()) return check.error();
  const int32_t* labels = operand<int32_t>(args, 1);
  for (int64_t i = 0; i < images; ++i) check.below(labels[i], kOutputs, "label");
  if (!check.ok()) return check.error();
  Call call{};
  call.images = operand<float>(args, 0);
  call.members = int(members), call.batch = int(images), call.activation = activation;
  for (int i = 0; i < kDenseLeaves; ++i) call.leaves[i] = operand<float>(args, kFirst + i);
  float *loss = result<float>(rets, 0), *correct = result<float>(rets, 1);
  int32_t* answers = result<int32_t>(rets, 2);
  return for_each_group<Workspace>(groups(members), threads, pool, [&](int g, Workspace& s) {
    evaluate_group(g, s, call, labels, loss, correct, answers);
  });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(zoojax_train, train,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<int32_t>("loss")
                                  .Attr<int32_t>("activation")
                                  .Attr<bool>("dropout")
                                  .Attr<bool>("variational")
                                  .Attr<int32_t>("penalty")
                                  .Attr<int32_t>("threads"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(zoojax_adam, adam,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<int32_t>("loss")
                                  .Attr<int32_t>("activation")
                                  .Attr<bool>("dropout")
                                  .Attr<bool>("variational")
                                  .Attr<int32_t>("penalty")
                                  .Attr<double>("b1")
                                  .Attr<double>("b2")
                                  .Attr<double>("eps")
                                  .Attr<int32_t>("threads"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(zoojax_outputs, outputs,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<int32_t>("activation")
                                  .Attr<bool>("dropout")
                                  .Attr<bool>("variational")
                                  .Attr<int32_t>("threads"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(zoojax_evaluate, evaluate,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<int32_t>("activation")
                                  .Attr<int32_t>("threads"));
