// exp, log and what is made of them, on one vector. Polynomials of Cephes' expf and logf (S. Moshier), 1 to 3
// units in the last place. Own code and not libm: its results move with the machine's glibc, ours are fixed
// by the build.
#pragma once

#include "kernels/cpu/simd/vector.h"

namespace nemo::kernels {
namespace {

/// e^r for |r| <= ln2 / 2 or little more.
NEMO_INLINE Floats exp_reduced(Floats r) {
  Floats p = broadcast(1.9875691500e-4f);
  p = multiply_add(p, r, broadcast(1.3981999507e-3f));
  p = multiply_add(p, r, broadcast(8.3334519073e-3f));
  p = multiply_add(p, r, broadcast(4.1665795894e-2f));
  p = multiply_add(p, r, broadcast(1.6666665459e-1f));
  p = multiply_add(p, r, broadcast(5.0000001201e-1f));
  return multiply_add(p, r * r, r) + 1.0f;
}

/// e^x; 0 below -104, infinity above 88.8, subnormal results in between are right; NaN stays.
NEMO_INLINE Floats exp(Floats x) {
  x = larger(broadcast(-104.0f), smaller(broadcast(89.0f), x));
  // x = n ln2 + r: adding 1.5 * 2^23 leaves the nearest integer in the low bits of the sum.
  const Floats magic = broadcast(12582912.0f);
  const Floats shifted = multiply_add(x, broadcast(1.44269504088896341f), magic);
  const Ints n = reinterpret_cast<Ints>(shifted) - reinterpret_cast<Ints>(magic);
  const Floats whole = shifted - magic;
  Floats r = multiply_add(whole, broadcast(-0.693359375f), x);
  r = multiply_add(whole, broadcast(2.12194440e-4f), r);
  // Two factors, because 2^n alone may be no normal number.
  const Ints half = n >> 1;
  const Floats first = reinterpret_cast<Floats>((half + 127) << 23);
  const Floats second = reinterpret_cast<Floats>((n - half + 127) << 23);
  return exp_reduced(r) * first * second;
}

/// e^x for x <= 0 (or a little above), for sums of such terms with one that is 1: 0 below -87.7, where exp
/// still gives numbers too small to count. NaN stays.
NEMO_INLINE Floats exp_of_nonpositive(Floats x) {
  x = larger(broadcast(-88.0f), x);
  // As above, but the low bits hold n + 127, which is 2^n once it is shifted, and 0 for the smallest n.
  const Floats magic = broadcast(12582912.0f + 127.0f);
  const Floats shifted = multiply_add(x, broadcast(1.44269504088896341f), magic);
  const Floats r = multiply_add(shifted - magic, broadcast(-0.69314718056f), x);
  return exp_reduced(r) * floats_of(bits_of(shifted) << 23);
}

/// log(1 + f) for f in [sqrt(1/2) - 1, sqrt(2) - 1].
NEMO_INLINE Floats log1p_reduced(Floats f) {
  const Floats square = f * f;
  Floats p = broadcast(7.0376836292e-2f);
  p = multiply_add(p, f, broadcast(-1.1514610310e-1f));
  p = multiply_add(p, f, broadcast(1.1676998740e-1f));
  p = multiply_add(p, f, broadcast(-1.2420140846e-1f));
  p = multiply_add(p, f, broadcast(1.4249322787e-1f));
  p = multiply_add(p, f, broadcast(-1.6668057665e-1f));
  p = multiply_add(p, f, broadcast(2.0000714765e-1f));
  p = multiply_add(p, f, broadcast(-2.4999993993e-1f));
  p = multiply_add(p, f, broadcast(3.3333331174e-1f));
  return f + multiply_add(f * square, p, -0.5f * square);
}

/// log(x) of normal x > 0.
NEMO_INLINE Floats log(Floats x) {
  const Ints word = reinterpret_cast<Ints>(x);
  // 0x3f3504f3 is sqrt(1/2): the mantissa comes to lie in [sqrt(1/2), sqrt(2)).
  const Ints exponent = (word - 0x3f3504f3) >> 23;
  const Floats mantissa = reinterpret_cast<Floats>(word - (exponent << 23));
  const Floats n = __builtin_convertvector(exponent, Floats);
  const Floats low = multiply_add(n, broadcast(-2.12194440e-4f), log1p_reduced(mantissa - 1.0f));
  return multiply_add(n, broadcast(0.693359375f), low);
}

/// log(1 + e^x), without loss for large |x|.
NEMO_INLINE Floats softplus(Floats x) {
  const Floats zero = {};
  const Floats u = exp(x > zero ? -x : x);
  // 1 + u lies in (1, 2]; its upper part is halved, exactly, so that no bits of a small u are lost.
  const Ints upper = u > broadcast(0.41421356f);
  const Floats f = upper ? 0.5f * u - 0.5f : u;
  const Floats log1p = log1p_reduced(f) + (upper ? broadcast(0.69314718056f) : zero);
  return (x > zero ? x : zero) + log1p;
}

NEMO_INLINE Floats sigmoid(Floats x) {
  return 1.0f / (1.0f + exp(-x));
}
NEMO_INLINE Floats silu(Floats x) {
  return x / (1.0f + exp(-x));
}

}  // namespace
}  // namespace nemo::kernels
