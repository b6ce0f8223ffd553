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
    constexpr unsigned F = 1u << 16, DQ = 1u << 17, BW = 1u << 30, VL = 1u << 31;
    constexpr unsigned XMM_AND_YMM = 0x6, ZMM = 0xe0;
    if (processor_has(F | DQ | BW | VL, XMM_AND_YMM | ZMM))
        return &avx512::instruction_set;
#endif
    return nullptr;
}
