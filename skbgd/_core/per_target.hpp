/* Compilation of code for one target, an instruction set.
 *
 * Each of `baseline.cpp`, `avx2.cpp` and `avx512.cpp` is a target. It defines these macros
 * and then includes `entry_points-inl.hpp`:
 *
 *     TARGET_NAME        namespace of its code, and name of the instruction set
 *     TARGET_EXTENSIONS  instruction set extensions, as compilers name them; may be missing
 *     VECTOR_BYTES       width of a vector
 *     N_REGISTERS        number of vector registers
 *
 * Code between BEGIN_TARGET() and END_TARGET() may use the extensions. Headers of the
 * system must be included outside: of an inline function that several targets compile, the
 * linker keeps one copy, which must run on every processor.
 */
#ifndef SKBGD_PER_TARGET_HPP
#define SKBGD_PER_TARGET_HPP
#include "interface.hpp"

#define SKBGD_PRAGMA(...) _Pragma(#__VA_ARGS__)
#define SKBGD_EXPANDED_PRAGMA(...) SKBGD_PRAGMA(__VA_ARGS__)
#define SKBGD_REQUIRE_SEMICOLON static_assert(true, "")

#if !defined(TARGET_EXTENSIONS)
#define BEGIN_TARGET() SKBGD_REQUIRE_SEMICOLON
#define END_TARGET() SKBGD_REQUIRE_SEMICOLON
#elif defined(__clang__)
#define BEGIN_TARGET() \
    SKBGD_EXPANDED_PRAGMA(clang attribute push(__attribute__((target(TARGET_EXTENSIONS))), \
                                               apply_to = function)) \
    SKBGD_REQUIRE_SEMICOLON
#define END_TARGET() _Pragma("clang attribute pop") SKBGD_REQUIRE_SEMICOLON
#else
/* gcc prefers vectors of 32 bytes unless told otherwise. clang does not know this option as
   part of a target, and would ignore the whole target. */
#define BEGIN_TARGET() \
    _Pragma("GCC push_options") \
        SKBGD_EXPANDED_PRAGMA(GCC target(TARGET_EXTENSIONS, "prefer-vector-width=512")) \
            SKBGD_REQUIRE_SEMICOLON
#define END_TARGET() _Pragma("GCC pop_options") SKBGD_REQUIRE_SEMICOLON
#endif
#endif
