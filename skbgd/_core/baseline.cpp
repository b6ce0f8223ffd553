/* Every processor: SSE2 on x86-64, NEON on aarch64; other compilers than gcc and clang
   make plain loops of it. */
#include "interface.hpp"
#define TARGET_NAMESPACE baseline
#define VECTOR_BYTES 16
#if defined(__aarch64__)
#define N_REGISTERS 32
#else
#define N_REGISTERS 16
#endif
#include "per_target.hpp"

const skbgd::InstructionSet *skbgd::baseline_instruction_set() { return &baseline::instruction_set; }
