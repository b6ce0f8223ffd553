/* Batches, steps and predictions, computed by a thread pool.
 *
 * There are two ways to divide a batch among threads. With a gradient for each thread
 * (batches of many rows), each thread passes its chunk of rows through the network, tile by
 * tile, and sums a gradient of its own. Otherwise, and for sparse rows, each thread passes
 * one tile of rows; when all have finished, each adds the gradient of all tiles for its
 * chunk of the rows of every W_l.
 */
#ifndef SKBGD_ENGINE_INL_HPP
#define SKBGD_ENGINE_INL_HPP
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "network-inl.hpp"
#include "update-inl.hpp"

BEGIN_TARGET();
namespace skbgd {
namespace TARGET_NAME {

template <class real> class Engine {
  public:
    explicit Engine(const Call<void> &call)
        : c(bit_cast<Call<real>>(call)), pool(*call.pool)
    {
    }

    double loss_gradient()
    {
        if (c.gradient && c.data.n == 0)
            std::fill(c.gradient, c.gradient + c.n_parameters, real(0));
        const double loss = backprop(0, c.data.n, c.gradient, {1, 0, false, 1, 1});
        if (c.gradient && c.gradient_offset)
            pool.run([&](int chunk, int) { sum_gradients(chunk); });
        return loss;
    }

    void run_batches(const UpdateRule &rule, long long n_steps, ptrdiff_t batch_size,
                     double *loss_sum, ptrdiff_t *n_done)
    {
        const ptrdiff_t n = c.data.n;
        const bool in_place = !c.gradient;
        const bool single_unit = in_place && batch_size == 1 && c.n_layers == 1 && c.K == 1
                                 && c.output == LOGISTIC;
        const bool in_blocks = in_place && !single_unit && c.data.dense()
                               && pool.n_threads == 1 && rule.eta * rule.alpha < 0.01;
        const ptrdiff_t block_rows = in_blocks ? rows_of_block(c, batch_size) : 0;
        for (ptrdiff_t m; *n_done < n; *n_done += m, n_steps++) {
            double loss = 0;
            m = std::min(batch_size, n - *n_done);
            if (single_unit) {
                /* Bounds the work between two checks for Ctrl-C. */
                const ptrdiff_t n_rows = std::min(
                    ptrdiff_t(1 + CHECK_INTERVAL / multiplications_per_row()), n - *n_done);
                if (!may_continue(0, n_rows))
                    break;
                m = sgd_single_unit(c.data, *n_done, n_rows, rule, c.theta,
                                    scratch(0) + c.stride * c.X_offset, &W_scale, &loss);
                *n_done += std::isfinite(loss) ? 0 : m;
            } else if (block_rows > 0) {
                const Tile<real> tile = {*n_done, std::min(block_rows, n - *n_done),
                                         scratch(0), c.stride, panel(0)};
                if (!may_continue(0, tile.m))
                    break;
                m = block_of_steps(c, tile, batch_size, rule, &loss);
                *n_done += std::isfinite(loss) ? 0 : m;
            } else if (in_place) {
                /* W = W - eta alpha W - eta / m dE/dW, E the sum of
                   the losses: no gradient is stored. */
                loss = backprop(*n_done, m, c.theta,
                                {-rule.eta / m, rule.eta * rule.alpha, true, 1, 1});
            } else {
                loss = backprop(*n_done, m, c.gradient, {1.0 / m, 0, false, 1, 1});
                if (std::isfinite(loss) && !step(rule, n_steps))
                    loss = NAN;
            }
            if (pool.interrupted)
                break;
            *loss_sum += loss;
            if (!std::isfinite(loss))
                break;
        }
        if (W_scale != 1)
            scale(c.theta, c.layers[0].b, real(W_scale));
    }

    /* One step along the gradient of the cross-entropy; b has no penalty. Returns false,
       without a step, if the norm of the gradient is limited and not finite. */
    bool step(const UpdateRule &rule, long long n_steps)
    {
        const bool limited = rule.max_gradient_norm > 0;
        double eta = rule.eta, factor = 1;
        if (rule.adam)
            /* eta sqrt(1 - beta_2^t) / (1 - beta_1^t) */
            eta *= std::sqrt(1 - std::pow(rule.beta_2, double(n_steps + 1)))
                   / (1 - std::pow(rule.beta_1, double(n_steps + 1)));
        if (limited) {
            /* g = g min(1, c / ||g||),  g = G + alpha W */
            const double norm = std::sqrt(pool.sum([&](int chunk, int) {
                double squares = 0;
                sum_gradients(chunk);
                for_each_slice(chunk, [&](ParameterSlice<real> s, bool penalized) {
                    if (penalized)
                        add_scaled(s.gradient, s.theta, s.n, real(rule.alpha));
                    squares += sum_of_squares(s.gradient, s.n);
                });
                return squares;
            }));
            if (!std::isfinite(norm))
                return false;
            if (norm > rule.max_gradient_norm)
                factor = rule.max_gradient_norm / norm;
        }
        pool.run([&](int chunk, int) {
            if (!limited)
                sum_gradients(chunk);
            for_each_slice(chunk, [&](ParameterSlice<real> s, bool penalized) {
                if (factor < 1)
                    scale(s.gradient, s.n, real(factor));
                /* If the norm is limited, the gradient already includes the penalty. */
                update(rule, eta, penalized && !limited ? rule.alpha : 0, s);
            });
        });
        return true;
    }

    bool outputs(bool activated, bool check_finite, real *out)
    {
        const ptrdiff_t n = c.data.n, K = c.K;
        std::atomic<ptrdiff_t> next{0};
        std::atomic<bool> finite{true};
        pool.run([&](int chunk, int thread) {
            for (ptrdiff_t start; finite && (start = next.fetch_add(c.tile)) < n;) {
                const Tile<real> tile = {start, std::min(c.tile, n - start), scratch(chunk),
                                         c.stride, panel(thread)};
                const ptrdiff_t size = tile.m * K;
                if (!may_continue(thread, tile.m))
                    break;
                if (check_finite
                    && !all_finite(c.data.X + start * c.data.d, tile.m * c.data.d)) {
                    finite = false;
                    break;
                }
                first_layer(c, tile, 1);
                real *Z = further_layers(c, tile);
                if (activated && c.output == SOFTMAX)
                    softmax(tile.m, K, Z, static_cast<const int *>(nullptr),
                            static_cast<real *>(nullptr));
                else if (activated)
                    activate(LOGISTIC, Z, size);
                std::memcpy(out + start * K, Z, size * sizeof(real));
            }
        });
        return finite;
    }

  private:
    Call<real> c;
    ThreadPool &pool;
    FlushDenormals flush;
    double W_scale = 1;           /* theta holds W_1 / W_scale; only for sparse rows */
    double n_multiplications = 0; /* since the last check for signals */

    /* Multiplications between two checks for signals: some hundredths of a second. */
    static constexpr double CHECK_INTERVAL = 1e8;

    double multiplications_per_row() const { return 1000.0 + c.n_parameters; }

    /* Whether to process n_rows more rows. The leader regularly lets Python handle signals,
       which may end the call with a KeyboardInterrupt. Counting multiplications is cheaper
       than reading a clock. */
    bool may_continue(int thread, ptrdiff_t n_rows)
    {
        if (thread == 0
            && (n_multiplications += n_rows * multiplications_per_row()) > CHECK_INTERVAL) {
            n_multiplications = 0;
            flush.disable();
            if (c.check_signals())
                pool.interrupted = true;
            flush.enable();
        }
        return !pool.interrupted;
    }

    real *scratch(int chunk) const { return c.scratch + chunk * c.scratch_size; }
    real *gradient(int chunk) const { return scratch(chunk) + c.gradient_offset; }
    real *panel(int thread) const { return static_cast<real *>(pool.panel(thread)); }

    /* The tile with all rows of a chunk of m rows. */
    Tile<real> chunk_of_rows(ptrdiff_t start, ptrdiff_t m, int chunk, int thread) const
    {
        const ptrdiff_t first = m * chunk / pool.n_threads;
        return {start + first, m * (chunk + 1) / pool.n_threads - first, scratch(chunk),
                c.stride, panel(thread)};
    }

    /* The offset in theta at which a chunk of the parameters begins: a multiple of 16, so
       that chunks are whole cache lines. */
    ptrdiff_t first_parameter(int chunk) const
    {
        const ptrdiff_t n = c.n_parameters;
        return chunk == pool.n_threads ? n : n * chunk / pool.n_threads / 16 * 16;
    }

    /* Call body(slice, penalized) for each part of a W_l or b_l in a chunk of the
       parameters. */
    template <class Body> void for_each_slice(int chunk, const Body &body) const
    {
        const ptrdiff_t begin = first_parameter(chunk), end = first_parameter(chunk + 1);
        for (ptrdiff_t l = 0; l < c.n_layers; l++)
            for (int part = 0; part < 2; part++) {
                const Layer &layer = c.layers[l];
                const ptrdiff_t bounds[] = {layer.W, layer.b, layer.b + layer.fan_out};
                const ptrdiff_t first = std::max(bounds[part], begin);
                const ptrdiff_t n = std::min(bounds[part + 1], end) - first;
                if (n <= 0)
                    continue;
                ParameterSlice<real> slice = {n, c.theta + first, c.gradient + first,
                                              nullptr, nullptr};
                if (c.velocity)
                    slice.velocity = c.velocity + first;
                if (c.second_moment)
                    slice.second_moment = c.second_moment + first;
                body(slice, part == 0);
            }
    }

    /* Add the gradients of all threads in c.gradient, for a chunk of the parameters. */
    void sum_gradients(int chunk)
    {
        const ptrdiff_t first = first_parameter(chunk);
        const ptrdiff_t n = first_parameter(chunk + 1) - first;
        for (int other = 1; c.gradient_offset && other < pool.n_threads; other++)
            add_scaled(c.gradient + first, gradient(other) + first, n, real(1));
    }

    /* sum_i w_i l_i over m rows; adds its gradient to G, unless G is nullptr. The result is
       not finite as soon as the loss of a tile is not, or when Python ends the call. G is
       then incomplete, but unchanged if this happened in the first tile. */
    double backprop(ptrdiff_t start, ptrdiff_t m, real *G, Accumulation mode)
    {
        if (!G || c.gradient_offset)
            return pool.sum([&](int chunk, int thread) {
                return backprop_chunk(start, m, chunk, thread, G, mode);
            });
        const ptrdiff_t stop = start + m;
        double loss = 0;
        for (; start < stop; start += m) {
            m = std::min(pool.n_threads * c.tile, stop - start);
            loss += pool.sum([&](int chunk, int thread) {
                const Tile<real> tile = chunk_of_rows(start, m, chunk, thread);
                if (!may_continue(thread, tile.m))
                    return double(NAN);
                return forward_backward(c, tile, W_scale, true);
            });
            if (!std::isfinite(loss))
                break;
            if (!c.data.dense() && mode.decay != 0) {
                /* W_1 = s V: decay changes s only, until s leaves its range. */
                W_scale *= 1 - mode.decay;
                if (!in_range(W_scale)) {
                    mode.rescale = W_scale;
                    W_scale = 1;
                }
            }
            mode.W_scale = W_scale;
            pool.run([&](int chunk, int thread) {
                Accumulation next = mode;
                for (int r = 0; r < pool.n_threads; r++) {
                    const Tile<real> tile = chunk_of_rows(start, m, r, thread);
                    if (tile.m == 0)
                        continue;
                    add_gradient(c, tile, chunk, pool.n_threads, G, next);
                    next = after_first_tile(next);
                }
            });
            mode = after_first_tile(mode);
        }
        return loss;
    }

    /* The loss of a chunk of m rows; if G is given, also its gradient, into G for the first
       chunk and into the chunk's own gradient for others. */
    double backprop_chunk(ptrdiff_t start, ptrdiff_t m, int chunk, int thread, real *G,
                          Accumulation mode)
    {
        real *own = chunk > 0 && G ? gradient(chunk) : G;
        Tile<real> tile = chunk_of_rows(start, m, chunk, thread);
        const ptrdiff_t stop = tile.start + tile.m;
        double loss = 0;
        if (own && tile.m == 0)
            std::fill(own, own + c.n_parameters, real(0));
        for (; tile.start < stop && std::isfinite(loss); tile.start += tile.m) {
            tile.m = std::min(c.tile, stop - tile.start);
            if (!may_continue(thread, tile.m))
                return NAN;
            loss += forward_backward(c, tile, 1, own != nullptr);
            if (own && std::isfinite(loss))
                add_gradient(c, tile, 0, 1, own, mode);
            mode = after_first_tile(mode);
        }
        return loss;
    }

    /* The mode for further tiles of a batch: decay and rescaling are done. */
    static Accumulation after_first_tile(Accumulation mode)
    {
        return {mode.scale, 0, true, 1, mode.W_scale};
    }
};

} // namespace TARGET_NAME
} // namespace skbgd
END_TARGET();
#endif
