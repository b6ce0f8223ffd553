/* x86-64 with AVX-512 (F, BW, DQ, VL), as servers have: vectors of 64 bytes. */
#include "kernels.hpp"
#ifdef SKBGD_X86
#define SET avx512
#define VECTOR_BYTES 64
#define REGISTERS 32
#ifdef __clang__
#pragma clang attribute push(__attribute__((target( \
    "avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512")
#endif
#include "unit.hpp"
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

const skbgd::InstructionSet *skbgd::avx512_set()
{
#ifdef SKBGD_X86
    static const InstructionSet set = {"avx512", avx512::table<float>(),
                                       avx512::table<double>()};
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return &set;
#endif
    return NULL;
}
