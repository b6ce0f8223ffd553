/* Vectors of the unit's width: load, store and sum, whole or the first lanes alone.
 *
 * gcc and clang have vector types with operators; other compilers get vectors of one lane,
 * for which the same code is plain loops. A `Mask` says how many lanes of the last vector
 * of a row exist: nothing is read or written past the end of an array.
 */
#ifdef SKBGD_VECTORS
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define PREFETCH(address) __builtin_prefetch(address)
#define OPTIMIZATION_BARRIER(value) __asm__("" : "+r"(value)) /* where it comes from, from the compiler */
#else
#define ALWAYS_INLINE static inline
#define PREFETCH(address)
#define OPTIMIZATION_BARRIER(value)
#endif
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define UNROLL _Pragma("GCC unroll 32")
#else
#define UNROLL
#endif

#ifdef SKBGD_VECTORS
template <class real> struct Simd {
    enum { LANES = VECTOR_BYTES / sizeof(real) };
    typedef real vector __attribute__((vector_size(VECTOR_BYTES)));
};
#else
template <class real> struct Simd {
    enum { LANES = 1 };
    typedef real vector;
};
#endif
template <class real> using Vector = typename Simd<real>::vector;

template <class real> ALWAYS_INLINE Vector<real> load(const real *at)
{
    Vector<real> v;
    memcpy(&v, at, sizeof v);
    return v;
}

template <class real> ALWAYS_INLINE void store(real *at, Vector<real> v)
{
    memcpy(at, &v, sizeof v);
}

#if VECTOR_BYTES == 64
template <class real> struct Mask {
    unsigned lanes;
    explicit Mask(ptrdiff_t n) : lanes((1u << n) - 1) {}
};
ALWAYS_INLINE Vector<float> load(const float *at, Mask<float> mask)
{
    return (Vector<float>)_mm512_maskz_loadu_ps((__mmask16)mask.lanes, at);
}
ALWAYS_INLINE Vector<double> load(const double *at, Mask<double> mask)
{
    return (Vector<double>)_mm512_maskz_loadu_pd((__mmask8)mask.lanes, at);
}
ALWAYS_INLINE void store(float *at, Vector<float> v, Mask<float> mask)
{
    _mm512_mask_storeu_ps(at, (__mmask16)mask.lanes, (__m512)v);
}
ALWAYS_INLINE void store(double *at, Vector<double> v, Mask<double> mask)
{
    _mm512_mask_storeu_pd(at, (__mmask8)mask.lanes, (__m512d)v);
}
#elif VECTOR_BYTES == 32
template <class real> struct Mask {
    __m256i lanes; /* those that exist have all bits set */
    explicit Mask(ptrdiff_t n)
    {
        static const int32_t bits[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
        lanes = _mm256_loadu_si256(
            (const __m256i *)(bits + 8 - n * (ptrdiff_t)(sizeof(real) / 4)));
    }
};
ALWAYS_INLINE Vector<float> load(const float *at, Mask<float> mask)
{
    return (Vector<float>)_mm256_maskload_ps(at, mask.lanes);
}
ALWAYS_INLINE Vector<double> load(const double *at, Mask<double> mask)
{
    return (Vector<double>)_mm256_maskload_pd(at, mask.lanes);
}
ALWAYS_INLINE void store(float *at, Vector<float> v, Mask<float> mask)
{
    _mm256_maskstore_ps(at, mask.lanes, (__m256)v);
}
ALWAYS_INLINE void store(double *at, Vector<double> v, Mask<double> mask)
{
    _mm256_maskstore_pd(at, mask.lanes, (__m256d)v);
}
#else
template <class real> struct Mask {
    ptrdiff_t n;
    explicit Mask(ptrdiff_t n) : n(n) {}
};
/* Lane by lane, unrolled: compilers turn a loop up to n into a call of memcpy. */
template <class real> ALWAYS_INLINE Vector<real> load(const real *at, Mask<real> mask)
{
    if (mask.n == Simd<real>::LANES)
        return load(at);
    real lanes[Simd<real>::LANES] = {};
    UNROLL
    for (ptrdiff_t l = 0; l < Simd<real>::LANES; l++)
        if (l < mask.n)
            lanes[l] = at[l];
    return load(lanes);
}
template <class real> ALWAYS_INLINE void store(real *at, Vector<real> v, Mask<real> mask)
{
    if (mask.n == Simd<real>::LANES)
        return store(at, v);
    real lanes[Simd<real>::LANES];
    store(lanes, v);
    UNROLL
    for (ptrdiff_t l = 0; l < Simd<real>::LANES; l++)
        if (l < mask.n)
            at[l] = lanes[l];
}
#endif
/* Whether loading the first lanes alone is one instruction. */
enum { MASKED_LOADS = VECTOR_BYTES > 16 };

/* The sum of all lanes: halves are added until one is left. */
#ifdef SKBGD_VECTORS
template <class real, int bytes> struct Sum {
    typedef real whole __attribute__((vector_size(bytes)));
    typedef real half __attribute__((vector_size(bytes / 2)));
    ALWAYS_INLINE real of(whole v)
    {
        half low, high;
        memcpy(&low, &v, sizeof low);
        memcpy(&high, (const char *)&v + sizeof low, sizeof high);
        return Sum<real, bytes / 2>::of(low + high);
    }
};
template <> struct Sum<float, 16> {
    typedef float whole __attribute__((vector_size(16)));
    ALWAYS_INLINE float of(whole v) { return (v[0] + v[2]) + (v[1] + v[3]); }
};
template <> struct Sum<double, 16> {
    typedef double whole __attribute__((vector_size(16)));
    ALWAYS_INLINE double of(whole v) { return v[0] + v[1]; }
};
template <class real> ALWAYS_INLINE real sum_of_lanes(Vector<real> v)
{
    return Sum<real, VECTOR_BYTES>::of(v);
}
#else
template <class real> ALWAYS_INLINE real sum_of_lanes(real v) { return v; }
#endif

/* Random row order defeats the hardware's prefetcher: ask for the beginning of a row some
   steps before it is needed. */
ALWAYS_INLINE void prefetch(const void *row, ptrdiff_t bytes)
{
    ptrdiff_t last = bytes < 1024 ? bytes : 1024;
    if (bytes <= 0)
        return;
    for (ptrdiff_t i = 0; i < last; i += 64)
        PREFETCH((const char *)row + i);
    PREFETCH((const char *)row + last - 1);
}

/* T = M^T for M (rows, columns); of both the rows are `ld` apart. In blocks of four, which
   compilers turn into shuffles, not into gathers. */
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
