/* Forward and backward pass of a tile of rows through the network.
 *
 * n rows in the data, m in the tile; L weight layers with units[0] = d features and
 * units[L] = K outputs. All matrices are row-major with samples in rows.
 *
 *     theta    [W_1, b_1, ..., W_L, b_L], W_l (units[l-1], units[l]), b_l (units[l],)
 *     A_0      the rows of X, (m, d), standardized if the network standardizes
 *     Z_l      A_{l-1} W_l + b_l, the pre-activations, (m, units[l])
 *     A_l      f(Z_l) in the hidden layers; the output layer keeps Z_L
 *     D_l      dJ/dZ_l, (m, units[l]); in the output layer w_i (a_i - y_i) for both losses
 *     Y        encoded labels, (n, 1), or 0/1 indicators, (n, K); the same for K = 1
 *
 * The loss of a row is the cross-entropy summed over the output units, times the weight of
 * the row. It is computed from Z_L, never from log(A_L).
 *
 * A tile has few enough rows to stay in the cache between forward and backward pass,
 * however large the batch. Sparse rows (CSR) stay sparse: a step reads and writes only the
 * rows of W_1 that belong to their elements. Standardized rows are made dense in the tile.
 */
#ifndef SKBGD_NETWORK_INL_HPP
#define SKBGD_NETWORK_INL_HPP
#include <algorithm>
#include <cmath>

#include "data-inl.hpp"
#include "elementwise-inl.hpp"
#include "gemm-inl.hpp"

BEGIN_TARGET();
namespace skbgd {
namespace TARGET_NAME {

/* Rows start ... start + m - 1 in the order, with scratch memory for their activations. */
template <class real> struct Tile {
    ptrdiff_t start, m;
    real *scratch;
    ptrdiff_t stride;
    real *panel;

    real *scratch_at(ptrdiff_t offset) const { return scratch + stride * offset; }
};

/* Whether dense rows are gathered in scratch memory: standardized rows, and rows that are
   not contiguous. */
template <class real>
ALWAYS_INLINE bool gathered(const Call<real> &c, const Tile<real> &tile)
{
    return c.data.standardizer || (!c.data.sparse && c.data.order && tile.m > 1);
}

/* The dense rows A_0 of a tile, (m, d); nullptr if they are sparse. */
template <class real>
ALWAYS_INLINE const real *dense_rows(const Call<real> &c, const Tile<real> &tile)
{
    if (!c.data.dense())
        return nullptr;
    if (gathered(c, tile))
        return tile.scratch_at(c.X_offset);
    return c.data.X + row_number(c.data, tile.start) * c.data.d;
}

/* The forward pass; returns Z_L. W_1 is W_scale times the matrix in theta. */
template <class real>
static real *forward(const Call<real> &c, const Tile<real> &tile, double W_scale)
{
    const real *A_in = dense_rows(c, tile);
    real *A_out = nullptr;
    if (gathered(c, tile))
        gather_rows(c.data, tile.start, tile.m, tile.scratch_at(c.X_offset));
    for (ptrdiff_t l = 0; l < c.n_layers; l++) {
        const Layer &layer = c.layers[l];
        A_out = tile.scratch_at(layer.A);
        /* Z_l = A_{l-1} W_l + b_l */
        Product<real> Z = product(
            tile.m, layer.fan_out, layer.fan_in, row_major(A_in, layer.fan_in),
            row_major(c.theta + layer.W, layer.fan_out), A_out, tile.panel);
        Z.P = c.theta + layer.b;
        if (l == 0 && !c.data.dense())
            sparse_affine(c.data, tile.start, W_scale, Z);
        else
            gemm(Z);
        /* A_l = f(Z_l) */
        if (l < c.n_layers - 1)
            activate(c.hidden, A_out, tile.m * layer.fan_out);
        A_in = A_out;
    }
    return A_out;
}

/* sum_i w_i l_i over the tile, from Z_L, which is overwritten with D_L = w (a - y). */
template <class real>
static double output_gradient(const Call<real> &c, const Tile<real> &tile)
{
    const ptrdiff_t K = c.K, n_terms = c.output == SOFTMAX ? 1 : K;
    const real *weights = tile.scratch_at(c.weight_offset);
    real *Z = tile.scratch_at(c.layers[c.n_layers - 1].A), *Y = tile.scratch_at(c.Y_offset);
    real *loss = tile.scratch_at(c.loss_offset);
    if (c.output == SOFTMAX)
        softmax(tile.m, K, Z, reinterpret_cast<const int *>(Y), loss);
    else
        sigmoid_cross_entropy(Z, Y, loss, tile.m * K);
    if (!c.data.weights)
        return sum(loss, tile.m * n_terms);
    double total = 0;
    for (ptrdiff_t i = 0; i < tile.m; i++, Z += K) {
        if (weights[i] == 0) {
            std::fill(Z, Z + K, real(0)); /* 0 times a NaN is NaN */
            continue;
        }
        double row_loss = 0;
        for (ptrdiff_t k = 0; k < n_terms; k++)
            row_loss += loss[i * n_terms + k];
        total += weights[i] * row_loss;
        scale(Z, K, weights[i]);
    }
    return total;
}

/* Forward and backward pass of a tile; returns sum_i w_i l_i. Scratch memory then holds all
   A_l and D_l, from which `add_gradient` computes dJ/dW and dJ/db. There is no backward
   pass if the loss is not finite. */
template <class real>
static double forward_backward(const Call<real> &c, const Tile<real> &tile, double W_scale,
                               bool with_gradient)
{
    if (tile.m == 0)
        return 0;
    gather_targets(c.data, tile.start, tile.m, c.K, c.output == SOFTMAX,
                   tile.scratch_at(c.Y_offset), tile.scratch_at(c.weight_offset));
    real *D = forward(c, tile, W_scale);
    const double loss = output_gradient(c, tile);
    if (!with_gradient || !std::isfinite(loss))
        return loss;
    for (ptrdiff_t l = c.n_layers - 1; l > 0; l--) {
        const Layer &layer = c.layers[l], &previous = c.layers[l - 1];
        real *S = tile.scratch_at(previous.D);
        /* dJ/dA_{l-1} = D_l W_l^T */
        gemm(product(tile.m, layer.fan_in, layer.fan_out, row_major(D, layer.fan_out),
                     transposed(row_major(c.theta + layer.W, layer.fan_out)), S,
                     tile.panel));
        /* D_{l-1} = dJ/dA_{l-1} * f'(Z_{l-1}) */
        times_derivative(c.hidden, tile.scratch_at(previous.A), S, tile.m * layer.fan_in);
        D = S;
    }
    return loss;
}

/* How a gradient is added to G:

       G_W = P_W - decay P_W + scale dJ/dW,  G_b = P_b + scale dJ/db

   P is G itself if `accumulate`, else 0. For sparse rows, theta and G hold W_1 divided by
   W_scale:

       G_1 = rescale P_1 + scale / W_scale dJ/dW_1 */
struct Accumulation {
    double scale, decay;
    bool accumulate;
    double rescale, W_scale;
};

/* Add the gradient of a tile to G, which has the layout of theta. Each chunk adds its part
   of the rows of each W_l, the last chunk also the b_l. With G = theta, scale = -eta / m
   and decay = eta alpha this is the step of gradient descent. */
template <class real>
static void add_gradient(const Call<real> &c, const Tile<real> &tile, int chunk,
                         int n_chunks, real *G, const Accumulation &mode)
{
    static const real one = 1;
    const real *A_in = dense_rows(c, tile);
    for (ptrdiff_t l = 0; l < c.n_layers; l++) {
        const Layer &layer = c.layers[l];
        const ptrdiff_t first = layer.fan_in * chunk / n_chunks;
        const ptrdiff_t n = layer.fan_in * (chunk + 1) / n_chunks - first;
        const real *D = tile.scratch_at(layer.D);
        real *G_W = G + layer.W + first * layer.fan_out, *G_b = G + layer.b;
        /* dJ/dW_l = A_{l-1}^T D_l */
        Product<real> g = product(n, layer.fan_out, tile.m,
                                  transposed(row_major(A_in, layer.fan_in)),
                                  row_major(D, layer.fan_out), G_W, tile.panel);
        g.scale = mode.scale;
        g.decay = mode.decay;
        g.P = mode.accumulate ? G_W : nullptr;
        g.ld_P = layer.fan_out;
        if (l == 0 && !c.data.dense()) {
            if (!mode.accumulate)
                std::fill(G_W, G_W + n * layer.fan_out, real(0));
            else if (mode.rescale != 1)
                scale(G_W, n * layer.fan_out, real(mode.rescale));
            g.scale /= mode.W_scale;
            g.C = G;
            add_sparse_product(c.data, tile.start, first, first + n, g);
        } else {
            g.A.data += first;
            gemm(g);
        }
        /* dJ/db_l = sum_i D_l[i], the product of a row of ones with D_l */
        const bool last = chunk == n_chunks - 1;
        if (last && tile.m == 1 && mode.accumulate)
            add_scaled(G_b, D, layer.fan_out, real(mode.scale));
        else if (last) {
            Product<real> g_b = product(1, layer.fan_out, tile.m, Matrix<real>{&one, 0, 0},
                                        row_major(D, layer.fan_out), G_b, tile.panel);
            g_b.scale = mode.scale;
            g_b.P = mode.accumulate ? G_b : nullptr;
            gemm(g_b);
        }
        A_in = tile.scratch_at(layer.A);
    }
}

} // namespace TARGET_NAME
} // namespace skbgd
END_TARGET();
#endif
