/* Rows through the network and back: the equations of a pass, and of its gradient.
 *
 * n rows in the data, m in the tile at hand; L weight layers with units[0] = d features,
 * units[L] = K outputs. Everything is row-major, samples in rows.
 *
 *     theta    [W_1, b_1, ..., W_L, b_L], W_l (units[l-1], units[l]), b_l (units[l],)
 *     A_0      the rows of X, (m, d), standardised where that is asked for
 *     Z_l      A_{l-1} W_l + b_l, the pre-activations, (m, units[l])
 *     A_l      f(Z_l) in the hidden layers; the output layer keeps Z_L
 *     D_l      dJ/dZ_l, (m, units[l]); at the output, for both losses, w_i (a_i - y_i)
 *     Y        class labels, (n, 1), or 0/1 indicators, (n, K); for K = 1 these coincide
 *
 * The loss of a row is the cross-entropy summed over the output units, times its weight.
 * It is computed from Z_L, never from log(A_L).
 *
 * Rows are taken a tile at a time: however large the batch, what is read and written
 * between two passes over the weights stays in the cache. Sparse rows (CSR) are not
 * densified: a step reads and writes the rows of W_1 that they name. Standardised rows are
 * made dense in the tile, however they are stored.
 */

/* Rows start ... start + m - 1 of the data, in their order, with the scratch memory for
   what a pass keeps of them. */
template <class real> struct Tile {
    ptrdiff_t start, m;
    real *memory;
    ptrdiff_t stride;
    real *panel;
    real *at(ptrdiff_t offset) const { return memory + stride * offset; }
};

/* Whether dense rows are gathered in scratch memory: standardised, or from other places. */
template <class real> ALWAYS_INLINE bool gathered(const Call<real> &c, const Tile<real> &tile)
{
    return c.data.standardizer || (!c.data.sparse && c.data.order && tile.m > 1);
}

/* Where the dense rows of a tile are, (m, d). */
template <class real>
ALWAYS_INLINE const real *dense_rows(const Call<real> &c, const Tile<real> &tile)
{
    if (!c.data.dense())
        return NULL;
    if (gathered(c, tile))
        return tile.at(c.X_offset);
    return c.data.X + row_number(c.data, tile.start) * c.data.d;
}

/* The forward pass; returns Z_L. W_1 is `W_scale` times what theta holds. */
template <class real>
static real *forward(const Call<real> &c, const Tile<real> &tile, double W_scale)
{
    const real *A_in = dense_rows(c, tile);
    real *A_out = NULL;
    if (gathered(c, tile))
        gather_rows(c.data, tile.start, tile.m, tile.at(c.X_offset));
    for (ptrdiff_t l = 0; l < c.n_layers; l++) {
        const Layer &layer = c.layers[l];
        A_out = tile.at(layer.A);
        /* Z_l = A_{l-1} W_l + b_l */
        const Product<real> Z = {tile.m, layer.fan_out, layer.fan_in, {A_in, layer.fan_in, 1},
                                 {c.theta + layer.W, layer.fan_out, 1}, 1, 0, c.theta + layer.b, 0,
                                 A_out, layer.fan_out, tile.panel};
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

/* sum_i w_i l_i over the tile from Z_L, which D_L = w (a - y) takes the offset of. */
template <class real> static double output_gradient(const Call<real> &c, const Tile<real> &tile)
{
    const ptrdiff_t K = c.K, n_terms = c.output == SOFTMAX ? 1 : K;
    const real *weights = tile.at(c.weight_offset);
    real *Z = tile.at(c.layers[c.n_layers - 1].A), *Y = tile.at(c.Y_offset), *loss = tile.at(c.loss_offset);
    if (c.output == SOFTMAX)
        softmax(tile.m, K, Z, (const int *)Y, loss);
    else
        sigmoid_cross_entropy(Z, Y, loss, tile.m * K);
    if (!c.data.weights)
        return sum(loss, tile.m * n_terms);
    double total = 0;
    for (ptrdiff_t i = 0; i < tile.m; i++, Z += K) {
        if (weights[i] == 0) {
            std::fill(Z, Z + K, (real)0); /* a product with 0 would keep a NaN */
            continue;
        }
        double row = 0;
        for (ptrdiff_t k = 0; k < n_terms; k++)
            row += loss[i * n_terms + k];
        total += weights[i] * row;
        scale(Z, K, weights[i]);
    }
    return total;
}

/* Take the rows of a tile through the network and back; returns sum_i w_i l_i. Of what is
   kept of them dJ/dW and dJ/db are products. Goes forward only if that is not finite. */
template <class real>
static double forward_backward(const Call<real> &c, const Tile<real> &tile, double W_scale,
                               bool with_gradient)
{
    if (tile.m == 0)
        return 0;
    gather_targets(c.data, tile.start, tile.m, c.K, c.output == SOFTMAX, tile.at(c.Y_offset),
            tile.at(c.weight_offset));
    real *D = forward(c, tile, W_scale);
    const double loss = output_gradient(c, tile);
    if (!with_gradient || !std::isfinite(loss))
        return loss;
    for (ptrdiff_t l = c.n_layers - 1; l > 0; l--) {
        const Layer &layer = c.layers[l];
        real *S = tile.at(c.layers[l - 1].D);
        /* dJ/dA_{l-1} = D_l W_l^T */
        gemm(Product<real>{tile.m, layer.fan_in, layer.fan_out, {D, layer.fan_out, 1},
                               {c.theta + layer.W, 1, layer.fan_out}, 1, 0, NULL, 0, S, layer.fan_in,
                               tile.panel});
        /* D_{l-1} = dJ/dA_{l-1} * f'(Z_{l-1}) */
        times_derivative(c.hidden, tile.at(c.layers[l - 1].A), S, tile.m * layer.fan_in);
        D = S;
    }
    return loss;
}

/* How a gradient is added: G_W = P_W - decay P_W + scale dJ/dW, G_b = P_b + scale dJ/db.
   Of sparse rows, whose W_1 is W_scale times what theta holds:
   G_1 = rescale P_1 + scale / W_scale dJ/dW_1. */
struct Accumulation {
    double scale, decay;
    bool accumulate; /* P is G itself; else 0 */
    double rescale, W_scale;
};

/* Add the gradient of the rows of a tile to G, which is like theta: of each W_l one of
   `n_chunks` chunks of its rows, the b_l with the last chunk. With G = theta, scale =
   -eta / m and decay = eta alpha this *is* the step of gradient descent. */
template <class real>
static void add_gradient(const Call<real> &c, const Tile<real> &tile, int chunk,
                         int n_chunks, real *G, const Accumulation &how)
{
    static const real one = 1;
    const real *A_in = dense_rows(c, tile);
    for (ptrdiff_t l = 0; l < c.n_layers; l++) {
        const Layer &layer = c.layers[l];
        const ptrdiff_t first = layer.fan_in * chunk / n_chunks;
        const ptrdiff_t n = layer.fan_in * (chunk + 1) / n_chunks - first;
        real *G_W = G + layer.W + first * layer.fan_out, *G_b = G + layer.b;
        /* dJ/dW_l = A_{l-1}^T D_l */
        Product<real> g = {n, layer.fan_out, tile.m, {A_in, 1, layer.fan_in},
                           {tile.at(layer.D), layer.fan_out, 1}, how.scale, how.decay,
                           how.accumulate ? G_W : NULL, layer.fan_out, G_W, layer.fan_out, tile.panel};
        if (l == 0 && !c.data.dense()) {
            if (!how.accumulate)
                std::fill(G_W, G_W + n * layer.fan_out, (real)0);
            else if (how.rescale != 1)
                scale(G_W, n * layer.fan_out, (real)how.rescale);
            g.scale /= how.W_scale;
            g.C = G;
            add_sparse_product(c.data, tile.start, first, first + n, g);
        } else {
            g.A.data += first;
            gemm(g);
        }
        /* dJ/db_l = sum_i D_l[i] */
        const bool last = chunk == n_chunks - 1;
        if (last && tile.m == 1 && how.accumulate)
            add_scaled(G_b, tile.at(layer.D), layer.fan_out, (real)how.scale);
        else if (last)
            gemm(Product<real>{1, layer.fan_out, tile.m, {&one, 0, 0},
                                   {tile.at(layer.D), layer.fan_out, 1}, how.scale, 0,
                                   how.accumulate ? G_b : NULL, 0, G_b, layer.fan_out,
                                   tile.panel});
        A_in = tile.at(layer.A);
    }
}
