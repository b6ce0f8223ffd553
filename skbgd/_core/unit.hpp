/* One instruction set: all kernels for vectors of VECTOR_BYTES bytes and REGISTERS vector
 * registers, in the namespace SET, and the table that hands them out. Included by each of
 * `baseline.cpp`, `avx2.cpp` and `avx512.cpp`. */
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
} // namespace SET
} // namespace skbgd
