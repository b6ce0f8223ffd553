/* x86-64 with AVX-512 (F, BW, DQ, VL), as servers have: vectors of 64 bytes. */
#include "core.hpp"
#ifdef SKBGD_X86
#define SET avx512
#define VECTOR_BYTES 64
#define REGISTERS 32
#define TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma"
#include "unit.hpp"
#endif

const skbgd::InstructionSet *skbgd::avx512_set()
{
#ifdef SKBGD_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return &avx512::set;
#endif
    return NULL;
}
