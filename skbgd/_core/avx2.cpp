/* x86-64 with AVX2 and FMA: vectors of 32 bytes. */
#include "core.hpp"
#ifdef SKBGD_X86
#define SET avx2
#define VECTOR_BYTES 32
#define REGISTERS 16
#define TARGET "avx2,fma"
#include "unit.hpp"
#endif

const skbgd::InstructionSet *skbgd::avx2_set()
{
#ifdef SKBGD_X86
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &avx2::set;
#endif
    return NULL;
}
