/* Any processor: SSE2 on x86-64, NEON on aarch64; plain loops with other compilers than gcc
   and clang. */
#define TARGET_NAME baseline
#define VECTOR_BYTES 16
#if defined(__aarch64__)
#define N_REGISTERS 32
#else
#define N_REGISTERS 16
#endif
#include "entry_points-inl.hpp"

const skbgd::InstructionSet *skbgd::baseline_instruction_set()
{
    return &baseline::instruction_set;
}
