/* x86-64 with AVX-512 F, BW, DQ and VL, as in servers: vectors of 64 bytes. */
#include "interface.hpp"
#ifdef SKBGD_X86
#define TARGET_NAME avx512
#define TARGET_EXTENSIONS "avx512f,avx512bw,avx512dq,avx512vl,fma"
#define VECTOR_BYTES 64
#define N_REGISTERS 32
#include "entry_points-inl.hpp"
#endif

const skbgd::InstructionSet *skbgd::avx512_instruction_set()
{
#ifdef SKBGD_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return &avx512::instruction_set;
#endif
    return nullptr;
}
