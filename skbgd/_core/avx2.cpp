/* x86-64 with AVX2 and FMA: vectors of 32 bytes. */
#include "interface.hpp"
#ifdef SKBGD_X86
#define TARGET_NAME avx2
#define TARGET_EXTENSIONS "avx2,fma"
#define VECTOR_BYTES 32
#define N_REGISTERS 16
#include "entry_points-inl.hpp"
#endif

const skbgd::InstructionSet *skbgd::avx2_instruction_set()
{
#ifdef SKBGD_X86
    constexpr unsigned AVX2 = 1u << 5, XMM_AND_YMM = 0x6;
    if (processor_has(AVX2, XMM_AND_YMM))
        return &avx2::instruction_set;
#endif
    return nullptr;
}
