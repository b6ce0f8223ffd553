/* Flushing of subnormal floating-point numbers to zero. */
#ifndef SKBGD_FLUSH_DENORMALS_HPP
#define SKBGD_FLUSH_DENORMALS_HPP
#include <cstdint>
#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace skbgd {

/* While an object of this class exists, subnormal numbers are 0 in its thread, or again
   numbers if it is made with `false`. Arithmetic on them is about a hundred times slower,
   and no sum here needs them. */
class FlushDenormals {
  public:
#if defined(__x86_64__) || defined(_M_X64)
    explicit FlushDenormals(bool flush = true) : saved(_mm_getcsr())
    {
        _mm_setcsr(flush ? saved | FTZ_AND_DAZ : saved & ~FTZ_AND_DAZ);
    }
    ~FlushDenormals() { _mm_setcsr(saved); }

  private:
    static constexpr unsigned FTZ_AND_DAZ = 0x8040;
    const unsigned saved;
#elif defined(__aarch64__) && defined(__GNUC__)
    explicit FlushDenormals(bool flush = true)
    {
        __asm__ __volatile__("mrs %0, fpcr" : "=r"(saved));
        set(flush ? saved | FZ : saved & ~FZ);
    }
    ~FlushDenormals() { set(saved); }

  private:
    static constexpr uint64_t FZ = 1 << 24;
    uint64_t saved;
    static void set(uint64_t mode) { __asm__ __volatile__("msr fpcr, %0" : : "r"(mode)); }
#else
    explicit FlushDenormals(bool = true) {}
    ~FlushDenormals() {}
#endif
};

} // namespace skbgd
#endif
