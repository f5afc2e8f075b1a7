// Conversion between rows of numbers, such as one row per member, and lanes.
#pragma once

#include <algorithm>
#include <utility>

#include "lanes.h"

// Unaligned vectors in memory.
inline F load(const float* from) { F r; std::memcpy(&r, from, sizeof r); return r; }
inline void store(F x, float* to) { std::memcpy(to, &x, sizeof x); }

// Exchanges elements of two rows that are `Step` apart: [a0 b0 a2 b2 ...] and [a1 b1 a3 b3 ...] for
// a step of one.
template <int Step, int... L>
inline void exchange(F& a, F& b, std::integer_sequence<int, L...>) {
#if defined(__clang__)
  const F low = __builtin_shufflevector(a, b, (L & Step ? kLanes + L - Step : L)...);
  const F high = __builtin_shufflevector(a, b, (L & Step ? kLanes + L : L + Step)...);
#else
  const F low = __builtin_shuffle(a, b, I{(L & Step ? kLanes + L - Step : L)...});
  const F high = __builtin_shuffle(a, b, I{(L & Step ? kLanes + L : L + Step)...});
#endif
  a = low, b = high;
}

template <int Step>
inline void transpose_steps(F (&rows)[kLanes]) {
  if constexpr (Step < kLanes) {
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; ++r)
      if (!(r & Step))
        exchange<Step>(rows[r], rows[r + Step], std::make_integer_sequence<int, kLanes>{});
    transpose_steps<2 * Step>(rows);
  }
}

// Transposes a square.
inline void transpose(F (&rows)[kLanes]) { transpose_steps<1>(rows); }

// to[i][l] = rows[l][i]
inline void pack_rows(const float* const* rows, int size, F* to) {
  int i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    F tile[kLanes];
    for (int l = 0; l < kLanes; ++l) tile[l] = load(rows[l] + i);
    transpose(tile);
    for (int l = 0; l < kLanes; ++l) to[i + l] = tile[l];
  }
  for (; i < size; ++i)
    for (int l = 0; l < kLanes; ++l) to[i][l] = rows[l][i];
}

// rows[l][i] = from[i][l] for the first `count` rows.
inline void unpack_rows(const F* from, int size, int count, float* const* rows) {
  int i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    F tile[kLanes];
    for (int l = 0; l < kLanes; ++l) tile[l] = from[i + l];
    transpose(tile);
    for (int l = 0; l < count; ++l) store(tile[l], rows[l] + i);
  }
  for (; i < size; ++i)
    for (int l = 0; l < count; ++l) rows[l][i] = from[i][l];
}

// Calls use(start, count) for the vectors of an array; the last one may be shorter.
template <class Use>
inline void for_vectors(int size, const Use& use) {
  int i = 0;
  for (; i + kLanes <= size; i += kLanes) use(i, std::integral_constant<int, kLanes>{});
  if (i < size) use(i, size - i);
}
inline F load_first(const float* from, int count) {
  F r = F{};
  std::memcpy(&r, from, count * sizeof(float));
  return r;
}
inline void store_first(F x, float* to, int count) { std::memcpy(to, &x, count * sizeof(float)); }

// Members are processed in groups of one per lane. The last group is padded with the last member.
inline int member(int group, int lane, int members) {
  return std::min(group * kLanes + lane, members - 1);
}

inline void pack(const float* from, int size, int group, int members, F* to) {
  const float* rows[kLanes];
  for (int l = 0; l < kLanes; ++l) rows[l] = from + int64_t(member(group, l, members)) * size;
  pack_rows(rows, size, to);
}

inline void unpack(const F* from, int size, int group, int members, float* to) {
  float* rows[kLanes];
  for (int l = 0; l < kLanes; ++l) rows[l] = to + int64_t(member(group, l, members)) * size;
  unpack_rows(from, size, std::min(kLanes, members - group * kLanes), rows);
}
