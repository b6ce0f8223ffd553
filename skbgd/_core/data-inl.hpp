/* Access to the rows of the data, in any order, dense or sparse. Dense and standardized
   rows are gathered; products with sparse rows read their elements only. */
#ifndef SKBGD_DATA_INL_HPP
#define SKBGD_DATA_INL_HPP
#include <cmath>
#include <cstdint>
#include <cstring>

#include "simd-inl.hpp"

BEGIN_TARGET();
namespace skbgd {
namespace TARGET_NAME {

/* Weights may be stored as W / scale. When `scale` leaves this range, the stored weights
   are multiplied by it. */
ALWAYS_INLINE bool in_range(double scale)
{
    return std::fabs(scale) > 1e-3 && std::fabs(scale) < 1e3;
}

ALWAYS_INLINE ptrdiff_t integer_at(const void *integers, bool wide, ptrdiff_t i)
{
    return wide ? ptrdiff_t(static_cast<const int64_t *>(integers)[i])
                : ptrdiff_t(static_cast<const int32_t *>(integers)[i]);
}

/* The elements of a sparse row: x[t] in column(t), t = 0 ... nnz - 1. */
template <class real> struct SparseRow {
    ptrdiff_t nnz;
    const real *x;
    const void *columns;
    const bool wide; /* whether column numbers have 64 bits */

    SparseRow(const Data<real> &data, ptrdiff_t row)
        : SparseRow(data, row, data.wide_indices)
    {
    }
    SparseRow(const Data<real> &data, ptrdiff_t row, bool wide) : wide(wide)
    {
        const ptrdiff_t first = integer_at(data.indptr, data.wide_indptr, row);
        nnz = integer_at(data.indptr, data.wide_indptr, row + 1) - first;
        x = data.X + first;
        columns = static_cast<const char *>(data.indices) + first * (wide ? 8 : 4);
    }
    ptrdiff_t column(ptrdiff_t t) const { return integer_at(columns, wide, t); }
    void prefetch_elements() const
    {
        prefetch(x, nnz * ptrdiff_t(sizeof(real)));
        prefetch(columns, nnz * (wide ? 8 : 4));
    }
};

template <class real>
ALWAYS_INLINE ptrdiff_t row_number(const Data<real> &data, ptrdiff_t i)
{
    return data.order ? data.order[i] : i;
}

/* y = y + factor x, of a row's length q */
template <class real>
ALWAYS_INLINE void add_scaled_row(ptrdiff_t q, real factor, const real *x, real *y)
{
#pragma omp simd
    for (ptrdiff_t j = 0; j < q; j++)
        y[j] += factor * x[j];
}

/* body(q, wide), compiled separately for q = 1 and for each width of the column numbers.
   Without loops over the one column of W_1, a gradient of 1.6 million sparse elements in
   float takes 2.8 instead of 9.3 ms (AVX-512, one thread). */
template <class Body> ALWAYS_INLINE void specialized(ptrdiff_t q, bool wide, Body body)
{
    if (q == 1 && !wide)
        body(1, false);
    else if (!wide)
        body(q, false);
    else
        body(q, true);
}

/* y = ((x - high) - low) * inverse, of length d; y = x without a standardizer */
template <class real>
ALWAYS_INLINE void standardize(ptrdiff_t d, const real *x, const real *standardizer,
                               real *y)
{
    constexpr ptrdiff_t LANES = Simd<real>::LANES;
    const ptrdiff_t whole = (d - 1) / LANES * LANES;
    const Mask<real> mask(d - whole);
    if (!standardizer) {
        for (ptrdiff_t j = 0; j < whole; j += LANES)
            store(y + j, load(x + j));
        store(y + whole, load(x + whole, mask), mask);
        return;
    }
    const real *high = standardizer, *low = high + d, *inverse = low + d;
    for (ptrdiff_t j = 0; j < whole; j += LANES)
        store(y + j, ((load(x + j) - load(high + j)) - load(low + j)) * load(inverse + j));
    x += whole, high += whole, low += whole, inverse += whole;
    store(y + whole,
          ((load(x, mask) - load(high, mask)) - load(low, mask)) * load(inverse, mask),
          mask);
}

/* Copy rows start ... start + n - 1 in the order to `rows`, (n, d), standardized. */
template <class real>
static void gather_rows(const Data<real> &data, ptrdiff_t start, ptrdiff_t n, real *rows)
{
    constexpr ptrdiff_t AHEAD = 8; /* rows to prefetch ahead */
    const ptrdiff_t d = data.d;
    for (ptrdiff_t i = start; i < start + n; i++, rows += d) {
        const real *x = rows;
        if (data.sparse) {
            const SparseRow<real> row(data, row_number(data, i));
            std::memset(rows, 0, d * sizeof(real));
            for (ptrdiff_t t = 0; t < row.nnz; t++)
                rows[row.column(t)] += row.x[t];
        } else {
            x = data.X + row_number(data, i) * d;
            if (i + AHEAD < data.n)
                prefetch(data.X + row_number(data, i + AHEAD) * d,
                         d * ptrdiff_t(sizeof(real)));
        }
        standardize(d, x, data.standardizer, rows);
    }
}

/* Copy the targets of rows start ... start + n - 1 to Y: 0 or 1 for each output unit,
   (n, K), or with `as_labels`, for a softmax, the encoded labels, (n,). Copy the weights
   too, if there are any. */
template <class real>
static void gather_targets(const Data<real> &data, ptrdiff_t start, ptrdiff_t n,
                           ptrdiff_t K, bool as_labels, real *Y, real *weights)
{
    const ptrdiff_t n_targets = data.n_targets;
    if (n_targets > 1) {
        for (ptrdiff_t i = 0; i < n; i++)
            for (ptrdiff_t k = 0; k < K; k++)
                Y[i * K + k] = real(data.Y[row_number(data, start + i) * K + k]);
    } else {
        if (!as_labels && K > 1)
            std::memset(Y, 0, n * K * sizeof(real));
        for (ptrdiff_t i = 0; i < n; i++) {
            /* Y may have been changed since it was checked: write to no other row. */
            const int last = as_labels || K > 1 ? int(K - 1) : 1;
            int label = data.Y[row_number(data, start + i)];
            label = label < 0 ? 0 : label < last ? label : last;
            if (as_labels)
                reinterpret_cast<int *>(Y)[i] = label;
            else if (K > 1)
                Y[i * K + label] = 1;
            else
                Y[i] = real(label);
        }
    }
    if (data.weights)
        for (ptrdiff_t i = 0; i < n; i++)
            weights[i] = data.weights[row_number(data, start + i)];
}

/* Z = b + scale X W for g.m sparse rows of X; in the product g, W is B, b is P, Z is C */
template <class real>
static void sparse_affine(const Data<real> &data, ptrdiff_t start, double scale,
                          const Product<real> &g)
{
    specialized(g.n, data.wide_indices, [&](ptrdiff_t q, bool wide) {
        for (ptrdiff_t i = 0; i < g.m; i++) {
            const SparseRow<real> row(data, row_number(data, start + i), wide);
            const real *W = g.B.data;
            real *z = g.C + i * q;
            ptrdiff_t t = 0;
            std::memset(z, 0, q * sizeof(real));
            for (; t + 4 <= row.nnz; t += 4) {
                const real *x = row.x + t;
                const real *W_0 = W + row.column(t) * q;
                const real *W_1 = W + row.column(t + 1) * q;
                const real *W_2 = W + row.column(t + 2) * q;
                const real *W_3 = W + row.column(t + 3) * q;
                for (ptrdiff_t u = t + 8; q > 1 && u < t + 12 && u < row.nnz; u++)
                    prefetch(W + row.column(u) * q, q * ptrdiff_t(sizeof(real)));
#pragma omp simd
                for (ptrdiff_t j = 0; j < q; j++)
                    z[j] += (x[0] * W_0[j] + x[1] * W_1[j])
                            + (x[2] * W_2[j] + x[3] * W_3[j]);
            }
            for (; t < row.nnz; t++)
                add_scaled_row(q, row.x[t], W + row.column(t) * q, z);
#pragma omp simd
            for (ptrdiff_t j = 0; j < q; j++)
                z[j] = g.P[j] + real(scale) * z[j];
        }
    });
}

/* G = G + scale X^T D for g.k sparse rows of X, restricted to rows first ... last - 1 of G;
   in the product g, D is B, G is C */
template <class real>
static void add_sparse_product(const Data<real> &data, ptrdiff_t start, ptrdiff_t first,
                               ptrdiff_t last, const Product<real> &g)
{
    specialized(g.n, data.wide_indices, [&](ptrdiff_t q, bool wide) {
        for (ptrdiff_t i = 0; i < g.k; i++) {
            const SparseRow<real> row(data, row_number(data, start + i), wide);
            for (ptrdiff_t t = 0; t < row.nnz; t++) {
                const ptrdiff_t k = row.column(t);
                if (q > 1 && t + 8 < row.nnz)
                    prefetch(g.C + row.column(t + 8) * q, q * ptrdiff_t(sizeof(real)));
                if (first <= k && k < last)
                    add_scaled_row(q, real(g.scale) * row.x[t], g.B.data + i * q,
                                   g.C + k * q);
            }
        }
    });
}

} // namespace TARGET_NAME
} // namespace skbgd
END_TARGET();
#endif
