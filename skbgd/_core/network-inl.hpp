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

/* Rows start ... start + m - 1 in the order. They are rows `first` ... `first` + m - 1 of
   the matrices in scratch memory. */
template <class real> struct Tile {
    ptrdiff_t start, m;
    real *scratch;
    ptrdiff_t stride;
    real *panel;
    ptrdiff_t first = 0;

    /* The first row of a matrix with rows of this width. */
    real *scratch_at(ptrdiff_t offset, ptrdiff_t width) const
    {
        return scratch + stride * offset + first * width;
    }
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
        return tile.scratch_at(c.X_offset, c.data.d);
    return c.data.X + row_number(c.data, tile.start) * c.data.d;
}

/* Z_1 = A_0 W_1 + b_1. W_1 is W_scale times the matrix in theta. */
template <class real>
static void first_layer(const Call<real> &c, const Tile<real> &tile, double W_scale)
{
    const Layer &layer = c.layers[0];
    Product<real> Z = product(tile.m, layer.fan_out, layer.fan_in,
                              row_major(dense_rows(c, tile), layer.fan_in),
                              row_major(c.theta + layer.W, layer.fan_out),
                              tile.scratch_at(layer.A, layer.fan_out), tile.panel);
    Z.P = c.theta + layer.b;
    if (gathered(c, tile))
        gather_rows(c.data, tile.start, tile.m, tile.scratch_at(c.X_offset, c.data.d));
    if (c.data.dense())
        gemm(Z);
    else
        sparse_affine(c.data, tile.start, W_scale, Z);
}

/* The forward pass through the other layers; returns Z_L. */
template <class real>
static real *further_layers(const Call<real> &c, const Tile<real> &tile)
{
    real *A = tile.scratch_at(c.layers[0].A, c.layers[0].fan_out);
    for (ptrdiff_t l = 1; l < c.n_layers; l++) {
        const Layer &layer = c.layers[l];
        real *A_out = tile.scratch_at(layer.A, layer.fan_out);
        /* A_{l-1} = f(Z_{l-1}) */
        activate(c.hidden, A, tile.m * layer.fan_in);
        /* Z_l = A_{l-1} W_l + b_l */
        Product<real> Z = product(
            tile.m, layer.fan_out, layer.fan_in, row_major(A, layer.fan_in),
            row_major(c.theta + layer.W, layer.fan_out), A_out, tile.panel);
        Z.P = c.theta + layer.b;
        gemm(Z);
        A = A_out;
    }
    return A;
}

template <class real>
static void gather_tile_targets(const Call<real> &c, const Tile<real> &tile)
{
    gather_targets(c.data, tile.start, tile.m, c.K, c.output == SOFTMAX,
                   tile.scratch_at(c.Y_offset, c.K), tile.scratch_at(c.weight_offset, 1));
}

/* sum_i w_i l_i over the tile, from Z_L, which is overwritten with D_L = w (a - y). */
template <class real>
static double output_gradient(const Call<real> &c, const Tile<real> &tile)
{
    const ptrdiff_t K = c.K, n_terms = c.output == SOFTMAX ? 1 : K;
    const real *weights = tile.scratch_at(c.weight_offset, 1);
    real *Z = tile.scratch_at(c.layers[c.n_layers - 1].A, K);
    real *loss = tile.scratch_at(c.loss_offset, n_terms);
    if (c.output == SOFTMAX)
        softmax(tile.m, K, Z,
                reinterpret_cast<const int *>(tile.scratch_at(c.Y_offset, 0)) + tile.first,
                loss);
    else
        sigmoid_cross_entropy(Z, tile.scratch_at(c.Y_offset, K), loss, tile.m * K);
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

/* Forward and backward pass of a tile from Z_1; returns sum_i w_i l_i. Scratch memory then
   holds all A_l and D_l, from which `add_gradient` computes dJ/dW and dJ/db. There is no
   backward pass if the loss is not finite. */
template <class real>
static double forward_backward(const Call<real> &c, const Tile<real> &tile,
                               bool with_gradient)
{
    real *D = further_layers(c, tile);
    const double loss = output_gradient(c, tile);
    if (!with_gradient || !std::isfinite(loss))
        return loss;
    for (ptrdiff_t l = c.n_layers - 1; l > 0; l--) {
        const Layer &layer = c.layers[l], &previous = c.layers[l - 1];
        real *S = tile.scratch_at(previous.D, layer.fan_in);
        /* dJ/dA_{l-1} = D_l W_l^T */
        gemm(product(tile.m, layer.fan_in, layer.fan_out, row_major(D, layer.fan_out),
                     transposed(row_major(c.theta + layer.W, layer.fan_out)), S,
                     tile.panel));
        /* D_{l-1} = dJ/dA_{l-1} * f'(Z_{l-1}) */
        times_derivative(c.hidden, tile.scratch_at(previous.A, layer.fan_in), S,
                         tile.m * layer.fan_in);
        D = S;
    }
    return loss;
}

/* The same from the rows. */
template <class real>
static double forward_backward(const Call<real> &c, const Tile<real> &tile, double W_scale,
                               bool with_gradient)
{
    if (tile.m == 0)
        return 0;
    gather_tile_targets(c, tile);
    first_layer(c, tile, W_scale);
    return forward_backward(c, tile, with_gradient);
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

/* Add the gradient of layer l to G, which has the layout of theta. Each chunk adds its part
   of the rows of W_l, the last chunk also b_l. */
template <class real>
static void add_layer_gradient(const Call<real> &c, const Tile<real> &tile, ptrdiff_t l,
                               int chunk, int n_chunks, real *G, const Accumulation &mode)
{
    static const real one = 1;
    const Layer &layer = c.layers[l];
    const ptrdiff_t first = layer.fan_in * chunk / n_chunks;
    const ptrdiff_t n = layer.fan_in * (chunk + 1) / n_chunks - first;
    const real *A_in = l > 0 ? tile.scratch_at(c.layers[l - 1].A, layer.fan_in)
                             : dense_rows(c, tile);
    const real *D = tile.scratch_at(layer.D, layer.fan_out);
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
}

/* Add the gradient of a tile to G. With G = theta, scale = -eta / m and decay = eta alpha
   this is the step of gradient descent. */
template <class real>
static void add_gradient(const Call<real> &c, const Tile<real> &tile, int chunk,
                         int n_chunks, real *G, const Accumulation &mode)
{
    for (ptrdiff_t l = 0; l < c.n_layers; l++)
        add_layer_gradient(c, tile, l, chunk, n_chunks, G, mode);
}

/* The most rows of a block of steps; also in `arguments.py`. */
constexpr ptrdiff_t BLOCK_ROWS = 32;

/* Rows of a block of steps on batches of this size; 0 if single steps are as fast. A block
   pays off from four steps on if W_1 exceeds the first-level cache: 784-100-10 with 1, 4 and
   8 rows per step takes 4.5, 17 and 32 us instead of 12, 24 and 35 (AVX-512, float).
   Otherwise it pays off from eight steps on: 30-16-1 with 1 and 2 rows takes 0.23 and 0.32
   us instead of 0.28 and 0.36, but with 4 rows 10 % more. */
template <class real>
static ptrdiff_t rows_of_block(const Call<real> &c, ptrdiff_t batch_size)
{
    const bool large = c.layers[0].fan_in * c.layers[0].fan_out > PANEL_SIZE;
    const ptrdiff_t most = std::min(large ? BLOCK_ROWS : BLOCK_ROWS / 2, c.tile);
    const ptrdiff_t n_steps = most / batch_size;
    return n_steps >= (large ? 4 : 8) ? n_steps * batch_size : 0;
}

/* Steps of gradient descent on batches of m rows, for a block of at most BLOCK_ROWS rows.
   W_1 is read and written once, not once for each step. Of the rows X, with
   W_1 = s V at step t and s = (1 - decay)^t:

       Z_1 = X V + b_1                    all rows, before the first step
       Z_1 = s (X V + (X X^T) E) + b_1    the rows of a step; E has a row for each row of
                                          the steps before
       E = -eta / (m s) D_1               the rows of the step, after it, with its s
       W_1 = s (V + X^T E)                after the last step

   Adds the loss of each row, computed before its step, to *loss_sum. Returns the number of
   rows processed, which ends before the first step with a loss that is not finite. */
template <class real>
static ptrdiff_t block_of_steps(const Call<real> &c, Tile<real> tile, ptrdiff_t batch_size,
                                const UpdateRule &rule, double *loss_sum)
{
    const Layer &layer = c.layers[0];
    const ptrdiff_t q = layer.fan_out, n = tile.m;
    const double decay = rule.eta * rule.alpha;
    real G[BLOCK_ROWS * BLOCK_ROWS];
    real *W = c.theta + layer.W, *b = c.theta + layer.b;
    real *E = tile.scratch_at(layer.D, q), *Z = tile.scratch_at(layer.A, q);
    double s = 1, loss = 0;
    gather_tile_targets(c, tile);
    if (gathered(c, tile))
        gather_rows(c.data, tile.start, n, tile.scratch_at(c.X_offset, layer.fan_in));
    const Matrix<real> X = row_major(dense_rows(c, tile), layer.fan_in);
    gemm(product(n, q, layer.fan_in, X, row_major<real>(W, q), Z, tile.panel));
    gemm(product(n, n, layer.fan_in, X, transposed(X), G, tile.panel));
    /* Where X X^T overflows, only the first step is exact: 0 times inf is NaN. */
    const ptrdiff_t stop = all_finite(G, n * n) ? n : std::min(n, batch_size);
    const ptrdiff_t start = tile.start;
    ptrdiff_t r = 0;
    for (; r < stop; r += tile.m) {
        tile.first = r;
        tile.start = start + r;
        tile.m = std::min(batch_size, stop - r);
        if (r > 0) {
            Product<real> g = product(tile.m, q, r, row_major<real>(G + r * n, n),
                                      row_major<real>(E, q), Z + r * q, tile.panel);
            g.P = g.C;
            g.ld_P = q;
            gemm(g);
        }
        for (ptrdiff_t i = r; i < r + tile.m; i++)
            scale_and_add(Z + i * q, q, real(s), b);
        loss = forward_backward(c, tile, true);
        *loss_sum += loss;
        if (!std::isfinite(loss))
            break;
        const Accumulation mode = {-rule.eta / tile.m, decay, true, 1, 1};
        for (ptrdiff_t l = 1; l < c.n_layers; l++)
            add_layer_gradient(c, tile, l, 0, 1, c.theta, mode);
        s *= 1 - decay;
        for (ptrdiff_t i = r; i < r + tile.m; i++) {
            scale(E + i * q, q, real(-rule.eta / tile.m / s));
            add_scaled(b, E + i * q, q, real(s));
        }
    }
    Product<real> g = product(layer.fan_in, q, r, transposed(X), row_major<real>(E, q), W,
                              tile.panel);
    g.scale = s;
    g.decay = 1 - s;
    g.P = W;
    g.ld_P = q;
    if (r > 0)
        gemm(g);
    return r;
}

} // namespace TARGET_NAME
} // namespace skbgd
END_TARGET();
#endif
