/* One instruction set: all kernels for vectors of VECTOR_BYTES bytes and REGISTERS vector
 * registers, in the namespace SET, and the table that hands them out. Included by each of
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

template <class real> constexpr Kernels<real> table()
{
    return {activate<real>,     times_derivative<real>, sigmoid_cross_entropy<real>,
            softmax<real>,      sum<real>,              all_finite<real>,
            scale<real>,        add_scaled<real>,       sum_of_squares<real>,
            multiply<real>,     gather<real>,           targets<real>,
            sparse_affine<real>, add_sparse_product<real>, update<real>,
            descend_rows<real>};
}
#if defined(TARGET) && defined(__clang__)
#pragma clang attribute pop
#elif defined(TARGET)
#pragma GCC pop_options
#endif
#define SET_NAME_(name) #name
#define SET_NAME(name) SET_NAME_(name)
static const InstructionSet set = {SET_NAME(SET), table<float>(), table<double>()};
} // namespace SET
} // namespace skbgd
