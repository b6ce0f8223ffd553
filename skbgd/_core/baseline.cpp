/* Every processor: SSE2 on x86-64, NEON on aarch64; other compilers than gcc and clang
   make plain loops of it. */
#include "core.hpp"
#define SET baseline
#define VECTOR_BYTES 16
#if defined(__aarch64__)
#define REGISTERS 32
#else
#define REGISTERS 16
#endif
#include "unit.hpp"

const skbgd::InstructionSet *skbgd::baseline_set() { return &baseline::set; }
