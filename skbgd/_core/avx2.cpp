/* x86-64 with AVX2 and FMA: vectors of 32 bytes. */
#include "kernels.hpp"
#ifdef SKBGD_X86
#define SET avx2
#define VECTOR_BYTES 32
#define REGISTERS 16
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#include "unit.hpp"
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

const skbgd::InstructionSet *skbgd::avx2_set()
{
#ifdef SKBGD_X86
    static const InstructionSet set = {"avx2", avx2::table<float>(),
                                       avx2::table<double>()};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &set;
#endif
    return NULL;
}
