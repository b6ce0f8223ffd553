/* x86-64 with AVX2 and FMA: vectors of 32 bytes. */
#include "interface.hpp"
#ifdef SKBGD_X86
#define TARGET_NAMESPACE avx2
#define VECTOR_BYTES 32
#define N_REGISTERS 16
#define TARGET_ATTRIBUTE "avx2,fma"
#include "per_target.hpp"
#endif

const skbgd::InstructionSet *skbgd::avx2_instruction_set()
{
#ifdef SKBGD_X86
    enum { AVX2 = 1 << 5, XMM_AND_YMM = 0x6 };
    if (processor_has(AVX2, XMM_AND_YMM))
        return &avx2::instruction_set;
#endif
    return NULL;
}
