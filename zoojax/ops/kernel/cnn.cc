// Loss and gradients of a training step, and evaluation, for many CNNs at once. Members are
// processed in groups of kLanes, one member per lane. Each sample is passed forward and backward
// while its activations are in the cache. Compiled for one architecture, given by macros:
//   ZOOJAX_SIZE, ZOOJAX_CHANNELS, ZOOJAX_HIDDEN, ZOOJAX_CLASSES and
//   ZOOJAX_CONV1, 2, 3 = features, kernel, pooling, dropout (0 or 1).

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>
#include <string>

#include "layers.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

struct ConvSpec { int features, kernel, pool; bool dropout; };
constexpr ConvSpec kConvs[3] = {{ZOOJAX_CONV1}, {ZOOJAX_CONV2}, {ZOOJAX_CONV3}};
template <int Layer, int H, int C>
using ConvOf = Conv<H, C, kConvs[Layer].kernel, kConvs[Layer].features, kConvs[Layer].pool>;

using Conv1 = ConvOf<0, ZOOJAX_SIZE, ZOOJAX_CHANNELS>;
using Conv2 = ConvOf<1, Conv1::R, Conv1::O>;
using Conv3 = ConvOf<2, Conv2::R, Conv2::O>;
using Fc1 = Dense<Conv3::kOutputs, ZOOJAX_HIDDEN>;
using Fc2 = Dense<ZOOJAX_HIDDEN, ZOOJAX_CLASSES>;

constexpr int kLayers = 5;
// Noise slots of a step (second counter word): one per layer, then one per layer for dropout.
constexpr uint32_t kDropoutSlot = kLayers;

// Sizes of the arrays passed from Python, in order: kernel and bias of each layer; then, with
// variational dropout, the variances of all kernels and of the convolutions' biases.
constexpr int kKernels[kLayers] = {Conv1::kWeights, Conv2::kWeights, Conv3::kWeights,
                                   Fc1::kWeights, Fc2::kWeights};
constexpr int kBiases[kLayers] = {Conv1::O, Conv2::O, Conv3::O, Fc1::O, Fc2::O};
constexpr int kDenseLeaves = 2 * kLayers, kVariances = kLayers + 3;
constexpr int leaf_size(int leaf) {
  if (leaf < kDenseLeaves) return leaf % 2 ? kBiases[leaf / 2] : kKernels[leaf / 2];
  leaf -= kDenseLeaves;
  return leaf < kLayers ? kKernels[leaf] : kBiases[leaf - kLayers];
}
constexpr int leaf_start(int leaf) {
  int start = 0;
  for (int i = 0; i < leaf; ++i) start += leaf_size(i);
  return start;
}
constexpr int kParameters = leaf_start(kDenseLeaves + kVariances);

// Leaves of one layer within an array of kParameters.
template <class Leaves, class Pointer>
Leaves leaves(Pointer all, int layer) {
  return {all + leaf_start(2 * layer), all + leaf_start(2 * layer + 1),
          all + leaf_start(kDenseLeaves + layer),
          layer < 3 ? all + leaf_start(kDenseLeaves + kLayers + layer) : nullptr};
}

// Intermediate results of one convolution, from the forward pass for the backward pass.
template <class Layer, int PaddedSize>
struct ConvTape {
  F y[Layer::kOutputs], y2[Layer::kOutputs], slope[Layer::kOutputs];
  F by_variance[Layer::kOutputs], dy[Layer::kOutputs];
  I winner[Layer::kOutputs];
  F rows[PaddedSize], rows2[PaddedSize];
};

struct Workspace {
  F parameters[kParameters], gradients[kParameters];
  F x[Conv1::kInputs], x2[Conv1::kInputs];
  ConvTape<Conv1, Conv1::kRows> conv1;
  ConvTape<Conv2, Conv2::kPadded> conv2;
  ConvTape<Conv3, Conv3::kPadded> conv3;
  F hidden[Fc1::O], hidden2[Fc1::O], slope[Fc1::O], by_variance1[Fc1::O], dhidden[Fc1::O];
  F logits[Fc2::O], by_variance2[Fc2::O], dlogits[Fc2::O];
};

// One per thread, reused: padding that the backward pass reads as zero is never written. Null if
// there is not enough memory.
Workspace* workspace() {
  thread_local std::unique_ptr<Workspace> space;
  if (!space) space.reset(new (std::nothrow) Workspace());
  return space.get();
}

// XLA's threads flush denormals to zero, others may not; results must not depend on the thread.
class FlushDenormals {
#if defined(__SSE__)
  unsigned before_ = __builtin_ia32_stmxcsr();

 public:
  FlushDenormals() { __builtin_ia32_ldmxcsr(before_ | 0x8040); }
  ~FlushDenormals() { __builtin_ia32_ldmxcsr(before_); }
#elif defined(__aarch64__)
  uint64_t before_;

 public:
  FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" : : "r"(before_ | (1ull << 24)));
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(before_)); }
#endif
};

struct Step {
  int activation;
  bool dropout;
  Noise noise;
  F rate;
};

// Applies inverted dropout to the output and slope of one layer.
void drop(const Step& step, int layer, int in_batch, int pixels, int features, F* y, F* slope) {
  const Noise noise = step.noise.of(kDropoutSlot + layer);
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

void square(const F* x, int n, F* x2) {
  for (int i = 0; i < n; ++i) x2[i] = x[i] * x[i];
}

template <bool Train, bool Variational, class Layer, class Tape>
void convolve(int layer, Workspace& s, const Step& step, int b, const F* x, const F* x2,
              Tape& tape) {
  Layer::template forward<Train, Variational>(
      x, x2, leaves<Weights>((const F*)s.parameters, layer), step.activation,
      step.noise.of(layer), b, tape.y, tape.winner, tape.slope, tape.by_variance);
  if (Train && step.dropout && kConvs[layer].dropout)
    drop(step, layer, b, Layer::R * Layer::R, Layer::O, tape.y, tape.slope);
  if (Variational) square(tape.y, Layer::kOutputs, tape.y2);
}

template <bool Train, bool Variational>
void forward(Workspace& s, const Step& step, int b) {
  const F* p = s.parameters;
  if (Variational) square(s.x, Conv1::kInputs, s.x2);
  convolve<Train, Variational, Conv1>(0, s, step, b, s.x, s.x2, s.conv1);
  convolve<Train, Variational, Conv2>(1, s, step, b, s.conv1.y, s.conv1.y2, s.conv2);
  convolve<Train, Variational, Conv3>(2, s, step, b, s.conv2.y, s.conv2.y2, s.conv3);
  Fc1::forward<Variational>(s.conv3.y, s.conv3.y2, leaves<Weights>(p, 3), step.noise.of(3), b,
                            s.hidden, s.by_variance1);
  for (int o = 0; o < Fc1::O; ++o)
    s.hidden[o] = activate<Train>(step.activation, s.hidden[o], s.slope[o]);
  if (Train && step.dropout) drop(step, 3, b, 1, Fc1::O, s.hidden, s.slope);
  if (Variational) square(s.hidden, Fc1::O, s.hidden2);
  Fc2::forward<Variational>(s.hidden, s.hidden2, leaves<Weights>(p, 4), step.noise.of(4), b,
                            s.logits, s.by_variance2);
}

template <bool Variational, class Layer, class Tape>
void convolve_back(int layer, Workspace& s, const F* x, const F* x2, Tape& tape, F* dx) {
  Layer::template backward<Variational>(
      x, x2, leaves<Weights>((const F*)s.parameters, layer), tape.dy, tape.winner, tape.slope,
      tape.by_variance, leaves<Gradients>(s.gradients, layer), tape.rows, tape.rows2, dx);
}

template <bool Variational>
void backward(Workspace& s) {
  const F* p = s.parameters;
  Fc2::backward<Variational>(s.hidden, s.hidden2, leaves<Weights>(p, 4), s.dlogits,
                             s.by_variance2, leaves<Gradients>(s.gradients, 4), s.dhidden);
  for (int o = 0; o < Fc1::O; ++o) s.dhidden[o] *= s.slope[o];
  Fc1::backward<Variational>(s.conv3.y, s.conv3.y2, leaves<Weights>(p, 3), s.dhidden,
                             s.by_variance1, leaves<Gradients>(s.gradients, 3), s.conv3.dy);
  convolve_back<Variational, Conv3>(2, s, s.conv2.y, s.conv2.y2, s.conv3, s.conv2.dy);
  convolve_back<Variational, Conv2>(1, s, s.conv1.y, s.conv1.y2, s.conv2, s.conv1.dy);
  convolve_back<Variational, Conv1>(0, s, s.x, s.x2, s.conv1, nullptr);
}

// Cross entropy, predicted class and softmax of a sample.
void classify(const F* logits, I label, F& loss, I& answer, F* softmax) {
  F best = logits[0], sum = F{}, right = F{};
  answer = I{};
  for (int o = 1; o < Fc2::O; ++o) {
    const I better = (logits[o] > best) | (is_nan(logits[o]) & ~is_nan(best));
    best = better ? logits[o] : best;
    answer = better ? I{} + o : answer;
  }
  for (int o = 0; o < Fc2::O; ++o) {
    softmax[o] = exp(logits[o] - best);
    sum += softmax[o];
    right = label == o ? logits[o] : right;
  }
  for (int o = 0; o < Fc2::O; ++o) softmax[o] /= sum;
  loss = log(sum) + best - right;
}

// Conversion between member-first arrays and lanes. The last group is padded with the last member.
int member(int group, int lane, int members) {
  return std::min(group * kLanes + lane, members - 1);
}

void pack(const float* from, int size, int group, int members, F* to) {
  const float* rows[kLanes];
  for (int l = 0; l < kLanes; ++l) rows[l] = from + int64_t(member(group, l, members)) * size;
  for (int i = 0; i < size; ++i)
    for (int l = 0; l < kLanes; ++l) to[i][l] = rows[l][i];
}

void unpack(const F* from, int size, int group, int members, float* to) {
  const int valid = std::min(kLanes, members - group * kLanes);
  for (int l = 0; l < valid; ++l) {
    float* row = to + int64_t(group * kLanes + l) * size;
    for (int i = 0; i < size; ++i) row[i] = from[i][l];
  }
}

// Groups are processed by any free thread; the results do not depend on which one. A thread that
// cannot allocate a workspace skips its groups, which is reported as an error.
template <class Run>
ffi::Error for_each_group(int members, int threads, ffi::ThreadPool& pool, const Run& run) {
  struct Shared {
    std::atomic<int> next{0};
    std::atomic<bool> no_memory{false};
    int done = 0;
    std::mutex mutex;
    std::condition_variable finished;
  };
  auto shared = std::make_shared<Shared>();
  const int groups = (members + kLanes - 1) / kLanes;
  const Run* body = &run;  // valid while groups remain
  auto work = [shared, body, groups] {
    FlushDenormals flush;
    for (int g; (g = shared->next++) < groups;) {
      if (Workspace* space = workspace())
        (*body)(g, *space);
      else
        shared->no_memory = true;
      std::lock_guard<std::mutex> lock(shared->mutex);
      if (++shared->done == groups) shared->finished.notify_all();
    }
  };
  const int helpers = std::min(threads, groups) - 1;
  for (int i = 0; i < helpers; ++i) pool.Schedule(decltype(work)(work));
  work();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->finished.wait(lock, [&] { return shared->done == groups; });
  if (shared->no_memory)
    return {ffi::ErrorCode::kResourceExhausted,
            "zoojax: no memory for " + std::to_string(sizeof(Workspace)) + " bytes a thread"};
  return ffi::Error::Success();
}

// Checks operands and results, and stores the first error.
class Check {
 public:
  Check(ffi::RemainingArgs& args, ffi::RemainingRets& rets) : args_(args), rets_(rets) {}

  using Shape = std::initializer_list<int64_t>;

  void counts(size_t args, size_t rets) {
    require(args_.size() == args && rets_.size() == rets, "number of operands or results");
  }
  void operand(int i, ffi::DataType type, Shape shape) {
    if (ok()) compare(*args_.get<ffi::AnyBuffer>(i), type, shape, "operand ", i);
  }
  void result(int i, ffi::DataType type, Shape shape) {
    if (ok()) compare(**rets_.get<ffi::AnyBuffer>(i), type, shape, "result ", i);
  }
  // A leaf of all members; only the product of the axes after the first is checked.
  void operand_leaf(int i, int64_t members, int leaf) {
    if (ok()) compare_leaf(*args_.get<ffi::AnyBuffer>(i), members, leaf, "operand ", i);
  }
  void result_leaf(int i, int64_t members, int leaf) {
    if (ok()) compare_leaf(**rets_.get<ffi::AnyBuffer>(i), members, leaf, "result ", i);
  }
  void below(int32_t number, int64_t end, const char* what) {
    if (ok() && (number < 0 || number >= end))
      error_ = std::string("zoojax: ") + what + " " + std::to_string(number) +
               " is not in [0, " + std::to_string(end) + ")";
  }
  void require(bool right, const std::string& what) {
    if (ok() && !right) error_ = "zoojax: " + what + " is wrong";
  }
  bool ok() const { return error_.empty(); }
  ffi::Error error() const { return ffi::Error::InvalidArgument(error_); }

 private:
  void compare(const ffi::AnyBuffer& buffer, ffi::DataType type, Shape shape, const char* what,
               int i) {
    const auto found = buffer.dimensions();
    require(buffer.element_type() == type && found.size() == shape.size() &&
                std::equal(shape.begin(), shape.end(), found.begin()),
            what + std::to_string(i));
  }
  void compare_leaf(const ffi::AnyBuffer& buffer, int64_t members, int leaf, const char* what,
                    int i) {
    const auto found = buffer.dimensions();
    require(buffer.element_type() == ffi::F32 && found.size() > 0 && found[0] == members &&
                int64_t(buffer.element_count()) == members * leaf_size(leaf),
            what + std::to_string(i));
  }

  ffi::RemainingArgs& args_;
  ffi::RemainingRets& rets_;
  std::string error_;
};

template <class T>
const T* operand(ffi::RemainingArgs& args, int i) {
  return args.get<ffi::AnyBuffer>(i)->typed_data<T>();
}
template <class T>
T* result(ffi::RemainingRets& rets, int i) {
  return (*rets.get<ffi::AnyBuffer>(i))->typed_data<T>();
}

// Index of the first leaf among the operands.
constexpr int kTrainLeaves = 7, kEvaluateLeaves = 2;
// Limit on members, images and members * batch size, so that an int can count them with lanes.
constexpr int64_t kMost = INT32_MAX - 64;
constexpr int leaves_of(bool variational) { return kDenseLeaves + (variational ? kVariances : 0); }

template <bool Variational>
void train_group(int g, Workspace& s, int members, int batch, ffi::RemainingArgs& args,
                 ffi::RemainingRets& rets, int activation, bool dropout) {
  constexpr int kLeaves = leaves_of(Variational), kFirst = kTrainLeaves;
  for (int i = 0; i < kLeaves; ++i)
    pack(operand<float>(args, kFirst + i), leaf_size(i), g, members, s.parameters + leaf_start(i));
  std::fill_n(s.gradients, leaf_start(kLeaves), F{});

  const float *images = operand<float>(args, 0), *weights = operand<float>(args, 3);
  const int32_t *labels = operand<int32_t>(args, 1), *index = operand<int32_t>(args, 2);
  const uint32_t *key = operand<uint32_t>(args, 4), *counter = operand<uint32_t>(args, 5);
  const float* rate = operand<float>(args, 6);
  Step step{activation, dropout, {}, {}};
  F total = F{}, loss_sum = F{}, correct_sum = F{};
  int of[kLanes];
  for (int l = 0; l < kLanes; ++l) {
    const int m = of[l] = member(g, l, members);
    step.noise.key0[l] = key[2 * m];
    step.noise.key1[l] = key[2 * m + 1];
    step.noise.block[l] = counter[m];
    step.rate[l] = rate[m];
    for (int b = 0; b < batch; ++b) total[l] += weights[m * batch + b];
  }
  for (int b = 0; b < batch; ++b) {
    F weight;
    I label;
    const float* from[kLanes];
    for (int l = 0; l < kLanes; ++l) {
      weight[l] = weights[of[l] * batch + b];
      const int image = index[of[l] * batch + b];
      label[l] = labels[image];
      from[l] = images + int64_t(image) * Conv1::kInputs;
    }
    if (!any(weight != 0.f)) continue;  // padding
    for (int i = 0; i < Conv1::kInputs; ++i)
      for (int l = 0; l < kLanes; ++l) s.x[i][l] = from[l][i];
    forward<true, Variational>(s, step, b);
    F loss;
    I answer;
    classify(s.logits, label, loss, answer, s.dlogits);
    const F share = weight / total;
    for (int o = 0; o < Fc2::O; ++o)
      s.dlogits[o] = (s.dlogits[o] - (label == o ? splat(1.f) : F{})) * share;
    loss_sum += loss * share;
    correct_sum += answer == label ? weight : F{};
    backward<Variational>(s);
  }
  unpack(&loss_sum, 1, g, members, result<float>(rets, 0));
  unpack(&correct_sum, 1, g, members, result<float>(rets, 1));
  for (int i = 0; i < kLeaves; ++i)
    unpack(s.gradients + leaf_start(i), leaf_size(i), g, members, result<float>(rets, 2 + i));
}

// Size of an axis of an operand; -1 if it has no such axis.
int64_t axis_size(const ffi::RemainingArgs& args, int i, size_t axis) {
  if (args.size() <= size_t(i)) return -1;
  const auto found = args.get<ffi::AnyBuffer>(i)->dimensions();
  return axis < found.size() ? found[axis] : -1;
}

ffi::Error train(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets,
                 int32_t activation, bool dropout, bool variational, int32_t threads) {
  const int64_t images = axis_size(args, 0, 0);
  const int64_t members = axis_size(args, 2, 0), batch = axis_size(args, 2, 1);
  const int leaves = leaves_of(variational);
  Check check(args, rets);
  check.counts(kTrainLeaves + leaves, 2 + leaves);
  check.require(images > 0 && images <= kMost, "number of images");
  check.require(batch > 0 && members > 0 && members <= kMost / std::max<int64_t>(batch, 2),
                "number of members");
  check.operand(0, ffi::F32, {images, ZOOJAX_SIZE, ZOOJAX_SIZE, ZOOJAX_CHANNELS});
  check.operand(1, ffi::S32, {images});
  check.operand(2, ffi::S32, {members, batch});
  check.operand(3, ffi::F32, {members, batch});
  check.operand(4, ffi::U32, {members, 2});
  check.operand(5, ffi::U32, {members});
  check.operand(6, ffi::F32, {members});
  for (int i = 0; i < 2; ++i) check.result(i, ffi::F32, {members});
  for (int i = 0; i < leaves; ++i) {
    check.operand_leaf(kTrainLeaves + i, members, i);
    check.result_leaf(2 + i, members, i);
  }
  check.require(activation >= 0 && activation < kActivations, "activation");
  if (!check.ok()) return check.error();
  const int32_t *labels = operand<int32_t>(args, 1), *index = operand<int32_t>(args, 2);
  for (int64_t i = 0; i < members * batch && check.ok(); ++i) {
    check.below(index[i], images, "index");
    if (check.ok()) check.below(labels[index[i]], ZOOJAX_CLASSES, "label");
  }
  if (!check.ok()) return check.error();
  return for_each_group(members, threads, pool, [&](int g, Workspace& s) {
    if (variational)
      train_group<true>(g, s, members, batch, args, rets, activation, dropout);
    else
      train_group<false>(g, s, members, batch, args, rets, activation, dropout);
  });
}

void evaluate_group(int g, Workspace& s, int members, int images, ffi::RemainingArgs& args,
                    ffi::RemainingRets& rets, int activation) {
  constexpr int kFirst = kEvaluateLeaves, kPartial = 64;
  for (int i = 0; i < kDenseLeaves; ++i)
    pack(operand<float>(args, kFirst + i), leaf_size(i), g, members, s.parameters + leaf_start(i));
  const float* pixels = operand<float>(args, 0);
  const int32_t* labels = operand<int32_t>(args, 1);
  const Step step{activation, false, {}, {}};
  int32_t* answers = result<int32_t>(rets, 2) + int64_t(g) * kLanes * images;
  const int valid = std::min(kLanes, members - g * kLanes);
  // Summed in parts, so that small losses are not lost to rounding in a large sum.
  F loss_sum = F{}, loss_part = F{};
  I correct_sum = I{};
  for (int n = 0; n < images; ++n) {
    for (int i = 0; i < Conv1::kInputs; ++i)
      s.x[i] = splat(pixels[int64_t(n) * Conv1::kInputs + i]);
    forward<false, false>(s, step, 0);
    F loss;
    I answer;
    classify(s.logits, I{} + labels[n], loss, answer, s.dlogits);
    loss_part += loss;
    correct_sum -= answer == labels[n];  // true is -1
    for (int l = 0; l < valid; ++l) answers[int64_t(l) * images + n] = answer[l];
    if (n % kPartial == kPartial - 1) loss_sum += loss_part, loss_part = F{};
  }
  loss_sum += loss_part;
  const F correct = __builtin_convertvector(correct_sum, F);
  unpack(&loss_sum, 1, g, members, result<float>(rets, 0));
  unpack(&correct, 1, g, members, result<float>(rets, 1));
}

ffi::Error evaluate(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets,
                    int32_t activation, int32_t threads) {
  const int64_t images = axis_size(args, 0, 0), members = axis_size(args, kEvaluateLeaves, 0);
  Check check(args, rets);
  check.counts(kEvaluateLeaves + kDenseLeaves, 3);
  check.require(images >= 0 && images <= kMost, "number of images");
  check.require(members > 0 && members <= kMost, "number of members");
  check.operand(0, ffi::F32, {images, ZOOJAX_SIZE, ZOOJAX_SIZE, ZOOJAX_CHANNELS});
  check.operand(1, ffi::S32, {images});
  for (int i = 0; i < kDenseLeaves; ++i) check.operand_leaf(kEvaluateLeaves + i, members, i);
  for (int i = 0; i < 2; ++i) check.result(i, ffi::F32, {members});
  check.result(2, ffi::S32, {members, images});
  check.require(activation >= 0 && activation < kActivations, "activation");
  if (!check.ok()) return check.error();
  const int32_t* labels = operand<int32_t>(args, 1);
  for (int64_t i = 0; i < images; ++i) check.below(labels[i], ZOOJAX_CLASSES, "label");
  if (!check.ok()) return check.error();
  return for_each_group(members, threads, pool, [&](int g, Workspace& s) {
    evaluate_group(g, s, members, images, args, rets, activation);
  });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(zoojax_train, train,
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
