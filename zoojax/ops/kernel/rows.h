// Matrix products of one member's fully connected layer with up to kLanes samples.
//
// Samples are rows: element i of sample b is rows[b][i * Stride]. Weights are read in place, in
// Flax's order [inputs][outputs], as vectors of neighboring outputs.
#pragma once

#include "blocks.h"
#include "pack.h"

// Rows of a block: kLanes, and as many as the last block may exceed them.
constexpr int kRows = kLanes + 5;
// Vectors of outputs of a block, which leaves registers for four or five rows.
constexpr int kVectors = kRegisters >= 32 ? 4 : 2;

template <int N, int O, int Stride>
struct RowProducts {
  static constexpr int V = (O + kLanes - 1) / kLanes, kPadded = V * kLanes;  // of a row of outputs
  static constexpr int kLast = O - (V - 1) * kLanes;  // outputs in the last vector
  // Rows of weights whose last vector would end behind the weights.
  static constexpr int kShort = (kPadded + O - 1) / O - 1 < N ? (kPadded + O - 1) / O - 1 : N;
  using Rows = float[kRows][kPadded];

  // z[b] = bias + row b times w, for `count` rows; the rows up to kRows must be readable. Without a
  // bias, the sums start at zero.
  static void forward(const float* const* rows, int count, const float* w, const float* bias,
                      Rows& z) {
    const int fives = (count + 4) / 5 * 5, fours = (count + 3) / 4 * 4;
    for_blocks<V, kVectors>([&](auto vectors, int v) {
      constexpr int VB = decltype(vectors)::value;
      if (fives <= fours)
        for (int b = 0; b < count; b += 5) forward_block<5, VB>(rows + b, w, bias, v, z + b);
      else
        for (int b = 0; b < count; b += 4) forward_block<4, VB>(rows + b, w, bias, v, z + b);
    });
  }

  // g (+)= sum of row b times d[b], over `count` rows.
  static void weight_gradient(const float* const* rows, int count, const Rows& d, float* g,
                              bool add) {
    for_blocks<V, kVectors>([&](auto vectors, int v) {
      for_blocks<N, 6>([&](auto inputs, int i) {
        constexpr int VB = decltype(vectors)::value, A = decltype(inputs)::value;
        F sum[A][VB] = {};
        for (int b = 0; b < count; ++b) {
          F by[VB];
#pragma GCC unroll 4
          for (int k = 0; k < VB; ++k) by[k] = load(d[b] + (v + k) * kLanes);
          const float* row = rows[b] + i * Stride;
#pragma GCC unroll 8
          for (int a = 0; a < A; ++a) {
            const float value = row[a * Stride];
#pragma GCC unroll 4
            for (int k = 0; k < VB; ++k) sum[a][k] += value * by[k];
          }
        }
#pragma GCC unroll 8
        for (int a = 0; a < A; ++a)
#pragma GCC unroll 4
          for (int k = 0; k < VB; ++k) {
            float* to = g + (i + a) * O + (v + k) * kLanes;
            if (v + k == V - 1)
              put<kLast>(sum[a][k], to, add);
            else
              put<kLanes>(sum[a][k], to, add);
          }
      });
    });
  }

  // g (+)= sum of d[b] over `count` rows.
  static void bias_gradient(int count, const Rows& d, float* g, bool add) {
    for (int v = 0; v < V; ++v) {
      F sum = F{};
      for (int b = 0; b < count; ++b) sum += load(d[b] + v * kLanes);
      if (v == V - 1)
        put<kLast>(sum, g + v * kLanes, add);
      else
        put<kLanes>(sum, g + v * kLanes, add);
    }
  }

  // dx[i] = sum over o of w[i][o] d[o], with one sample per lane.
  static void input_gradient(const float* w, const F* d, F* dx) {
    for_blocks<N, kRegisters / 2>([&](auto inputs, int i) {
      constexpr int A = decltype(inputs)::value;
      F sum[A] = {};
      const float* from = w + i * O;
      for (int o = 0; o < O; ++o) {
        const F by = d[o];
#pragma GCC unroll 16
        for (int a = 0; a < A; ++a) sum[a] += from[a * O + o] * by;
      }
#pragma GCC unroll 16
      for (int a = 0; a < A; ++a) dx[i + a] = sum[a];
    });
  }

 private:
  template <int Size>
  static F get(const float* from) {
    F r = F{};
    std::memcpy(&r, from, Size * sizeof(float));
    return r;
  }
  template <int Size>
  static void put(F x, float* to, bool add) {
    if (add) x += get<Size>(to);
    std::memcpy(to, &x, Size * sizeof(float));
  }

  template <int B, int VB>
  static void forward_block(const float* const* rows, const float* w, const float* bias, int v,
                            float (*z)[kPadded]) {
    F sum[B][VB];
#pragma GCC unroll 4
    for (int k = 0; k < VB; ++k) {
      const float* from = bias + (v + k) * kLanes;
      const F start = !bias ? F{} : v + k == V - 1 ? get<kLast>(from) : load(from);
#pragma GCC unroll 8
      for (int b = 0; b < B; ++b) sum[b][k] = start;
    }
    const float* row[B];
    for (int b = 0; b < B; ++b) row[b] = rows[b];
    const bool last = v + VB == V;
    const int full = last ? N - kShort : N;
    for (int i = 0; i < full; ++i) {
      F weight[VB];
#pragma GCC unroll 4
      for (int k = 0; k < VB; ++k) weight[k] = load(w + i * O + (v + k) * kLanes);
      multiply<B, VB>(row, i, weight, sum);
    }
    for (int i = full; i < N; ++i) {
      F weight[VB];
#pragma GCC unroll 4
      for (int k = 0; k < VB; ++k)
        weight[k] = k == VB - 1 ? get<kLast>(w + i * O + (v + k) * kLanes)
                                : get<kLanes>(w + i * O + (v + k) * kLanes);
      multiply<B, VB>(row, i, weight, sum);
    }
#pragma GCC unroll 8
    for (int b = 0; b < B; ++b)
#pragma GCC unroll 4
      for (int k = 0; k < VB; ++k) store(sum[b][k], z[b] + (v + k) * kLanes);
  }

  template <int B, int VB>
  static inline __attribute__((always_inline)) void multiply(const float* const (&row)[B], int i,
                                                             const F (&weight)[VB],
                                                             F (&sum)[B][VB]) {
#pragma GCC unroll 8
    for (int b = 0; b < B; ++b) {
      const float value = row[b][i * Stride];
#pragma GCC unroll 4
      for (int k = 0; k < VB; ++k) sum[b][k] += value * weight[k];
    }
  }
};

// Conversion between rows of outputs and one sample per lane; unused columns stay as they are.
template <int O, int Padded>
void rows_to_lanes(const float (&rows)[kRows][Padded], F* lanes) {
  for (int o = 0; o < O; o += kLanes) {
    F tile[kLanes];
    for (int b = 0; b < kLanes; ++b) tile[b] = load(rows[b] + o);
    transpose(tile);
    for (int k = 0; k < kLanes && o + k < O; ++k) lanes[o + k] = tile[k];
  }
}
template <int O, int Padded>
void lanes_to_rows(const F* lanes, float (&rows)[kRows][Padded]) {
  for (int o = 0; o < O; o += kLanes) {
    F tile[kLanes];
    for (int k = 0; k < kLanes; ++k) tile[k] = o + k < O ? lanes[o + k] : F{};
    transpose(tile);
    for (int b = 0; b < kLanes; ++b) store(tile[b], rows[b] + o);
  }
}
