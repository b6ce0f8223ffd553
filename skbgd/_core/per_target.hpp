/* One instruction set: the core for vectors of VECTOR_BYTES bytes and N_REGISTERS vector
 * registers, in the namespace TARGET_NAMESPACE, and its entry_points. Included by each of
 * `baseline.cpp`, `avx2.cpp` and `avx512.cpp`; compiled for TARGET_ATTRIBUTE, if there is one. */
#define PRAGMA(...) _Pragma(#__VA_ARGS__)
#define EXPANDED_PRAGMA(...) PRAGMA(__VA_ARGS__)
#if defined(TARGET_ATTRIBUTE) && defined(__clang__)
EXPANDED_PRAGMA(clang attribute push(__attribute__((target(TARGET_ATTRIBUTE))), apply_to = function))
#elif defined(TARGET_ATTRIBUTE)
#pragma GCC push_options
EXPANDED_PRAGMA(GCC target(TARGET_ATTRIBUTE, "prefer-vector-width=512")) /* if it has them */
#endif
namespace skbgd {
namespace TARGET_NAMESPACE {
#include "simd-inl.hpp"
#include "elementwise-inl.hpp"
#include "gemm-inl.hpp"
#include "data-inl.hpp"
#include "update-inl.hpp"
#include "network-inl.hpp"
#include "engine-inl.hpp"

template <class real> constexpr EntryPoints entry_points()
{
    return {loss_gradient<real>,    run_batches<real>,    apply_gradient<real>,
            outputs<real>,          squared_row_norms<real>,      column_moments<real>,
            squared_weight_norms<real>,    apply_activation<real>, compute_product<real>};
}
#if defined(TARGET_ATTRIBUTE) && defined(__clang__)
#pragma clang attribute pop
#elif defined(TARGET_ATTRIBUTE)
#pragma GCC pop_options
#endif
#define STRINGIFY_(name) #name
#define STRINGIFY(name) STRINGIFY_(name)
static const InstructionSet instruction_set = {STRINGIFY(TARGET_NAMESPACE), entry_points<float>(), entry_points<double>()};
} // namespace TARGET_NAMESPACE
} // namespace skbgd
