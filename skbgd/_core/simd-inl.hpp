/* Vectors of VECTOR_BYTES bytes: load, store and sum, whole or masked.
 *
 * gcc and clang have vector types with operators. Other compilers get vectors of one lane,
 * with which the same code becomes plain loops. A `Mask` selects the first lanes of a
 * vector, for the last vector of a row: nothing is read or written past the end of an
 * array, and no loop over single elements is needed.
 */
#ifndef SKBGD_SIMD_INL_HPP
#define SKBGD_SIMD_INL_HPP
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "per_target.hpp"
#ifdef SKBGD_X86
#include <immintrin.h>
#endif

#ifdef SKBGD_VECTORS
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE static inline
#endif
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define UNROLL _Pragma("GCC unroll 32")
#else
#define UNROLL
#endif

BEGIN_TARGET();
namespace skbgd {
namespace TARGET_NAME {

/* The bytes of a value as a value of another type, like std::bit_cast of C++20. */
template <class To, class From> ALWAYS_INLINE To bit_cast(const From &value)
{
    static_assert(sizeof(To) == sizeof(From), "types of different sizes");
    To result;
    std::memcpy(static_cast<void *>(&result), &value, sizeof result);
    return result;
}

/* Hide from the compiler how a pointer was computed: it must keep the pointer in a register
   instead of computing it again. */
template <class T> ALWAYS_INLINE void optimization_barrier(T *&pointer)
{
#ifdef SKBGD_VECTORS
    __asm__("" : "+r"(pointer));
#endif
}

#ifdef SKBGD_VECTORS
template <class real> struct Simd {
    static constexpr ptrdiff_t LANES = VECTOR_BYTES / sizeof(real);
    typedef real vector __attribute__((vector_size(VECTOR_BYTES)));
};
#else
template <class real> struct Simd {
    static constexpr ptrdiff_t LANES = 1;
    typedef real vector;
};
#endif
template <class real> using Vector = typename Simd<real>::vector;

template <class real> ALWAYS_INLINE Vector<real> load(const real *from)
{
    Vector<real> v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <class real> ALWAYS_INLINE void store(real *to, Vector<real> v)
{
    std::memcpy(to, &v, sizeof v);
}

#if VECTOR_BYTES == 64
template <class real> struct Mask {
    unsigned bits;
    explicit Mask(ptrdiff_t n) : bits((1u << n) - 1) {}
};
ALWAYS_INLINE Vector<float> load(const float *from, Mask<float> mask)
{
    return Vector<float>(_mm512_maskz_loadu_ps(__mmask16(mask.bits), from));
}
ALWAYS_INLINE Vector<double> load(const double *from, Mask<double> mask)
{
    return Vector<double>(_mm512_maskz_loadu_pd(__mmask8(mask.bits), from));
}
ALWAYS_INLINE void store(float *to, Vector<float> v, Mask<float> mask)
{
    _mm512_mask_storeu_ps(to, __mmask16(mask.bits), __m512(v));
}
ALWAYS_INLINE void store(double *to, Vector<double> v, Mask<double> mask)
{
    _mm512_mask_storeu_pd(to, __mmask8(mask.bits), __m512d(v));
}
#elif VECTOR_BYTES == 32
template <class real> struct Mask {
    __m256i lanes; /* selected lanes have all bits set */
    ptrdiff_t n;
    explicit Mask(ptrdiff_t n) : n(n)
    {
        static const int32_t bits[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
        const int32_t *first = bits + 8 - n * ptrdiff_t(sizeof(real) / 4);
        lanes = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(first));
    }
};
ALWAYS_INLINE Vector<float> load(const float *from, Mask<float> mask)
{
    return Vector<float>(_mm256_maskload_ps(from, mask.lanes));
}
ALWAYS_INLINE Vector<double> load(const double *from, Mask<double> mask)
{
    return Vector<double>(_mm256_maskload_pd(from, mask.lanes));
}
/* AMD's processors take tens of cycles for a masked store: with it, a step of 300-200-5 on
   one row takes 4.3 instead of 3.7 us (Zen 4, float). */
ALWAYS_INLINE void store(float *to, Vector<float> v, Mask<float> mask)
{
    if (mask.n == 8)
        return store(to, v);
    __m128 rest = _mm256_castps256_ps128(__m256(v));
    if (mask.n & 4) {
        _mm_storeu_ps(to, rest);
        rest = _mm256_extractf128_ps(__m256(v), 1);
        to += 4;
    }
    if (mask.n & 2) {
        _mm_storel_pi(reinterpret_cast<__m64 *>(to), rest);
        rest = _mm_movehl_ps(rest, rest);
        to += 2;
    }
    if (mask.n & 1)
        _mm_store_ss(to, rest);
}
ALWAYS_INLINE void store(double *to, Vector<double> v, Mask<double> mask)
{
    if (mask.n == 4)
        return store(to, v);
    __m128d rest = _mm256_castpd256_pd128(__m256d(v));
    if (mask.n & 2) {
        _mm_storeu_pd(to, rest);
        rest = _mm256_extractf128_pd(__m256d(v), 1);
        to += 2;
    }
    if (mask.n & 1)
        _mm_store_sd(to, rest);
}
#else
template <class real> struct Mask {
    ptrdiff_t n;
    explicit Mask(ptrdiff_t n) : n(n) {}
};
/* Unrolled, because compilers replace a loop up to n by a call of memcpy, around which all
   vector registers are saved. */
template <class real> ALWAYS_INLINE Vector<real> load(const real *from, Mask<real> mask)
{
    if (mask.n == Simd<real>::LANES)
        return load(from);
    real lanes[Simd<real>::LANES] = {};
    UNROLL
    for (ptrdiff_t l = 0; l < Simd<real>::LANES; l++)
        if (l < mask.n)
            lanes[l] = from[l];
    return load(lanes);
}
template <class real> ALWAYS_INLINE void store(real *to, Vector<real> v, Mask<real> mask)
{
    if (mask.n == Simd<real>::LANES)
        return store(to, v);
    real lanes[Simd<real>::LANES];
    store(lanes, v);
    UNROLL
    for (ptrdiff_t l = 0; l < Simd<real>::LANES; l++)
        if (l < mask.n)
            to[l] = lanes[l];
}
#endif
/* Whether a masked load is a single instruction. */
constexpr bool MASKED_LOADS = VECTOR_BYTES > 16;

/* sums[q] = the sum of all lanes of v[q], for four vectors: adds the two halves of each
   until 16 bytes are left, then transposes these. */
#ifdef SKBGD_VECTORS
template <class real> struct Short {
    static constexpr int LANES = 16 / sizeof(real);
    typedef real vector __attribute__((vector_size(16)));
};
#ifdef __clang__
#define SKBGD_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SKBGD_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, decltype(a < b){__VA_ARGS__})
#endif
template <class real, int bytes> struct LaneSum {
    typedef real whole __attribute__((vector_size(bytes)));
    typedef real half __attribute__((vector_size(bytes / 2)));
    struct Halves {
        half low, high;
    };
    ALWAYS_INLINE typename Short<real>::vector short_sum(whole v)
    {
        const Halves halves = bit_cast<Halves>(v);
        return LaneSum<real, bytes / 2>::short_sum(halves.low + halves.high);
    }
};
template <class real> struct LaneSum<real, 16> {
    typedef typename Short<real>::vector vector;
    ALWAYS_INLINE vector short_sum(vector v) { return v; }
};
ALWAYS_INLINE void sums_of_lanes(const Vector<float> (&v)[4], float *sums)
{
    Short<float>::vector s[4], pair[2];
    UNROLL
    for (int q = 0; q < 4; q++)
        s[q] = LaneSum<float, VECTOR_BYTES>::short_sum(v[q]);
    UNROLL
    for (int q = 0; q < 2; q++)
        pair[q] = SKBGD_SHUFFLE(s[2 * q], s[2 * q + 1], 0, 4, 1, 5)
                  + SKBGD_SHUFFLE(s[2 * q], s[2 * q + 1], 2, 6, 3, 7);
    s[0] = SKBGD_SHUFFLE(pair[0], pair[1], 0, 1, 4, 5)
           + SKBGD_SHUFFLE(pair[0], pair[1], 2, 3, 6, 7);
    std::memcpy(sums, &s[0], sizeof s[0]);
}
ALWAYS_INLINE void sums_of_lanes(const Vector<double> (&v)[4], double *sums)
{
    Short<double>::vector s[4], pair;
    UNROLL
    for (int q = 0; q < 4; q++)
        s[q] = LaneSum<double, VECTOR_BYTES>::short_sum(v[q]);
    UNROLL
    for (int q = 0; q < 4; q += 2) {
        pair = SKBGD_SHUFFLE(s[q], s[q + 1], 0, 2) + SKBGD_SHUFFLE(s[q], s[q + 1], 1, 3);
        std::memcpy(sums + q, &pair, sizeof pair);
    }
}
ALWAYS_INLINE float sum_of_lanes(Vector<float> v)
{
    const auto s = LaneSum<float, VECTOR_BYTES>::short_sum(v);
    return (s[0] + s[2]) + (s[1] + s[3]);
}
ALWAYS_INLINE double sum_of_lanes(Vector<double> v)
{
    const auto s = LaneSum<double, VECTOR_BYTES>::short_sum(v);
    return s[0] + s[1];
}
#else
template <class real> ALWAYS_INLINE void sums_of_lanes(const real (&v)[4], real *sums)
{
    for (int q = 0; q < 4; q++)
        sums[q] = v[q];
}
template <class real> ALWAYS_INLINE real sum_of_lanes(real v) { return v; }
#endif

ALWAYS_INLINE void prefetch_line(const void *address)
{
#ifdef SKBGD_VECTORS
    __builtin_prefetch(address);
#endif
}

/* Prefetch the beginning of a row, at most 1024 bytes. Rows in random order defeat the
   hardware prefetcher, which fetches the rest. */
ALWAYS_INLINE void prefetch(const void *row, ptrdiff_t bytes)
{
    const char *address = static_cast<const char *>(row);
    const ptrdiff_t last = bytes < 1024 ? bytes : 1024;
    if (bytes <= 0)
        return;
    for (ptrdiff_t i = 0; i < last; i += 64)
        prefetch_line(address + i);
    prefetch_line(address + last - 1);
}

/* T = M^T for M (rows, columns); the rows of M and T are ld_M and ld_T elements apart.
   Takes four rows at a time: compilers turn this into shuffles, but plain loops into
   gathers. */
template <class real>
static void transpose(ptrdiff_t rows, ptrdiff_t columns, const real *M, ptrdiff_t ld_M,
                      real *T, ptrdiff_t ld_T)
{
    ptrdiff_t i = 0;
    for (; i + 4 <= rows; i += 4, M += 4 * ld_M)
        for (ptrdiff_t j = 0; j < columns; j++)
            for (int r = 0; r < 4; r++)
                T[j * ld_T + i + r] = M[r * ld_M + j];
    for (; i < rows; i++, M += ld_M)
        for (ptrdiff_t j = 0; j < columns; j++)
            T[j * ld_T + i] = M[j];
}

} // namespace TARGET_NAME
} // namespace skbgd
END_TARGET();
#endif
