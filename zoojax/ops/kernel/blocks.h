// Blocks of sums that are kept in registers.
//
// A block of a x b sums fits the registers together with a + 1 operands, and uses each loaded
// operand several times. The last block of an axis may be narrower.
#pragma once

#include <type_traits>

#include "lanes.h"

struct Block { int a, b; };
constexpr bool fits(int a, int b) { return a * b + a + 1 <= kRegisters; }

// Work of one step of a block: multiply-adds (at least as many as hide their latency) and loads.
constexpr int block_cost(int a, int b) {
  if (a == 0 || b == 0) return 0;
  return 2 * (a * b > 8 ? a * b : 8) + a + b;
}
constexpr int total_cost(int a_total, int b_total, int a, int b) {
  const int na = a_total / a, nb = b_total / b, ta = a_total % a, tb = b_total % b;
  return na * nb * block_cost(a, b) + na * block_cost(a, tb) + nb * block_cost(ta, b) +
         block_cost(ta, tb);
}
// The cheapest block for a total of a_total x b_total sums.
constexpr Block block(int a_total, int b_total) {
  Block best{1, 1};
  int least = total_cost(a_total, b_total, 1, 1);
  for (int a = 1; a <= 8 && a <= a_total; ++a)
    for (int b = 1; b <= 8 && b <= b_total; ++b) {
      const int cost = total_cost(a_total, b_total, a, b);
      if (fits(a, b) && cost < least) least = cost, best = {a, b};
    }
  return best;
}
// The best a for a given b that divides no total.
constexpr int side(int a_total, int b) {
  int best = 1;
  for (int a = 2; a <= 8 && a <= a_total; ++a)
    if (fits(a, b) && total_cost(a_total, b, a, b) < total_cost(a_total, b, best, b)) best = a;
  return best;
}

// Calls use(width, start) for blocks of Width along an axis of Total, then for the rest. The width
// is a constant.
template <int Total, int Width, class Use>
inline __attribute__((always_inline)) void for_blocks(const Use& use) {
  constexpr int full = Total / Width * Width;
  for (int start = 0; start < full; start += Width)
    use(std::integral_constant<int, Width>{}, start);
  if constexpr (full < Total) use(std::integral_constant<int, Total - full>{}, full);
}
