/* One instruction set: the core for vectors of VECTOR_BYTES bytes and REGISTERS vector
 * registers, in the namespace SET, and its doors. Included by each of
 * `baseline.cpp`, `avx2.cpp` and `avx512.cpp`; compiled for TARGET, if there is one. */
#define PRAGMA(...) _Pragma(#__VA_ARGS__)
#define EXPANDED_PRAGMA(...) PRAGMA(__VA_ARGS__)
#if defined(TARGET) && defined(__clang__)
EXPANDED_PRAGMA(clang attribute push(__attribute__((target(TARGET))), apply_to = function))
#elif defined(TARGET)
#pragma GCC push_options
EXPANDED_PRAGMA(GCC target(TARGET, "prefer-vector-width=512")) /* if it has them */
#endif
namespace skbgd {
namespace SET {
#include "simd.hpp"
#include "elementwise.hpp"
#include "products.hpp"
#include "sparse.hpp"
#include "update.hpp"
#include "network.hpp"
#include "descent.hpp"

template <class real> constexpr Doors doors()
{
    return {loss_gradient<real>,    run_batches<real>,    apply_gradient<real>,
            outputs<real>,          row_norms<real>,      column_moments<real>,
            squared_norms<real>,    apply_activation<real>, compute_product<real>};
}
#if defined(TARGET) && defined(__clang__)
#pragma clang attribute pop
#elif defined(TARGET)
#pragma GCC pop_options
#endif
#define SET_NAME_(name) #name
#define SET_NAME(name) SET_NAME_(name)
static const InstructionSet set = {SET_NAME(SET), doors<float>(), doors<double>()};
} // namespace SET
} // namespace skbgd
