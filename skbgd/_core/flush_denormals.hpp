/* Flushing of subnormal floating-point numbers to zero. */
#ifndef SKBGD_FLUSH_DENORMALS_HPP
#define SKBGD_FLUSH_DENORMALS_HPP
#include <cstdint>
#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace skbgd {

/* While an object of this class exists, subnormal numbers are 0 in its thread. Arithmetic
   on them is about a hundred times slower, and no sum here needs them. */
class FlushDenormals {
  public:
    FlushDenormals() { enable(); }
    ~FlushDenormals() { disable(); }

#if defined(__x86_64__) || defined(_M_X64)
    void enable()
    {
        saved = _mm_getcsr();
        _mm_setcsr(saved | FTZ_AND_DAZ);
    }
    void disable() { _mm_setcsr(saved); }

  private:
    static constexpr unsigned FTZ_AND_DAZ = 0x8040;
    unsigned saved;
#elif defined(__aarch64__) && defined(__GNUC__)
    void enable()
    {
        __asm__ __volatile__("mrs %0, fpcr" : "=r"(saved));
        __asm__ __volatile__("msr fpcr, %0" : : "r"(saved | FZ));
    }
    void disable() { __asm__ __volatile__("msr fpcr, %0" : : "r"(saved)); }

  private:
    static constexpr uint64_t FZ = 1 << 24;
    uint64_t saved;
#else
    void enable() {}
    void disable() {}
#endif
};

} // namespace skbgd
#endif
