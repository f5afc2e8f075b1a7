// Pooling that is not fused with a convolution, for one sample of kLanes members.
#pragma once

#include "lanes.h"

// Calls use(at, from) for each position of the window of one output that is not padding: `at`
// counts the positions, `from` is the index of the input.
//   H, W, C: input; KH, KW: window; SH, SW: stride; TOP, LEFT: padding.
template <int H, int W, int C, int KH, int KW, int SH, int SW, int TOP, int LEFT, class Use>
inline void for_window(int h, int w, int c, const Use& use) {
  for (int i = 0; i < KH; ++i)
    for (int j = 0; j < KW; ++j) {
      const int row = h * SH + i - TOP, column = w * SW + j - LEFT;
      if (row < 0 || row >= H || column < 0 || column >= W) continue;
      use(i * KW + j, (row * W + column) * C + c);
    }
}

template <int H, int W, int C, int KH, int KW, int SH, int SW, int TOP, int LEFT, int RH, int RW>
struct MaxPool {
  template <bool Train>
  static void forward(const F* x, F* y, I* winner) {
    for (int h = 0; h < RH; ++h)
      for (int w = 0; w < RW; ++w)
        for (int c = 0; c < C; ++c) {
          // Padding is smaller than the window, so the first position replaces the infinity.
          F best = splat(-__builtin_inff());
          I index = I{};
          for_window<H, W, C, KH, KW, SH, SW, TOP, LEFT>(h, w, c, [&](int at, int from) {
            const I better = (x[from] > best) | is_nan(x[from]);
            best = better ? x[from] : best;
            if (Train) index = better ? I{} + at : index;
          });
          const int out = (h * RW + w) * C + c;
          y[out] = best;
          if (Train) winner[out] = index;
        }
  }

  static void backward(const F* dy, const I* winner, F* dx) {
    for (int i = 0; i < H * W * C; ++i) dx[i] = F{};
    for (int h = 0; h < RH; ++h)
      for (int w = 0; w < RW; ++w)
        for (int c = 0; c < C; ++c) {
          const int out = (h * RW + w) * C + c;
          for_window<H, W, C, KH, KW, SH, SW, TOP, LEFT>(h, w, c, [&](int at, int from) {
            dx[from] += winner[out] == at ? dy[out] : F{};
          });
        }
  }
};

// Padding counts as zeros.
template <int H, int W, int C, int KH, int KW, int SH, int SW, int TOP, int LEFT, int RH, int RW>
struct AveragePool {
  static constexpr float kScale = 1.f / (KH * KW);

  static void forward(const F* x, F* y) {
    for (int h = 0; h < RH; ++h)
      for (int w = 0; w < RW; ++w)
        for (int c = 0; c < C; ++c) {
          F sum = F{};
          for_window<H, W, C, KH, KW, SH, SW, TOP, LEFT>(
              h, w, c, [&](int, int from) { sum += x[from]; });
          y[(h * RW + w) * C + c] = sum * kScale;
        }
  }

  static void backward(const F* dy, F* dx) {
    for (int i = 0; i < H * W * C; ++i) dx[i] = F{};
    for (int h = 0; h < RH; ++h)
      for (int w = 0; w < RW; ++w)
        for (int c = 0; c < C; ++c) {
          const F share = dy[(h * RW + w) * C + c] * kScale;
          for_window<H, W, C, KH, KW, SH, SW, TOP, LEFT>(
              h, w, c, [&](int, int from) { dx[from] += share; });
        }
  }
};
