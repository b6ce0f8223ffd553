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
#include <cstdint>
#include <cstring>
#include <memory>

#include "network-inl.hpp"
#include "update-inl.hpp"

BEGIN_TARGET();
namespace skbgd {
namespace TARGET_NAME {

/* The same addresses, as those of numbers of type real; members in the order of Data. */
template <class real> static Data<real> typed(const Data<void> &x)
{
    const auto at = [](const void *p) { return static_cast<const real *>(p); };
    return {x.n,
            x.d,
            x.sparse,
            x.wide_indices,
            x.wide_indptr,
            at(x.X),
            x.indices,
            x.indptr,
            x.Y,
            x.n_targets,
            at(x.weights),
            x.order,
            at(x.standardizer)};
}

template <class real> static Call<real> typed(const Call<void> &x)
{
    const auto at = [](void *p) { return static_cast<real *>(p); };
    return {static_cast<const Network &>(x),
            at(x.theta),
            at(x.velocity),
            at(x.second_moment),
            typed<real>(x.data),
            x.tile,
            x.own_gradients,
            x.check_signals};
}

/* theta holds W_1 / s. Decay changes s only, until it leaves its range: then the stored
   weights are multiplied by it. */
class WeightScale {
  public:
    double s = 1;

    /* W_1 = (1 - decay) W_1; returns the factor for the stored weights. */
    double decay_by(double decay)
    {
        s *= 1 - decay;
        return in_range(s) ? 1 : take();
    }

    /* s, which then is 1 */
    double take()
    {
        const double before = s;
        s = 1;
        return before;
    }
};

template <class real> class Engine : public Core {
  public:
    Engine(const Call<void> &call, int n_threads)
        : Core(n_threads), c(typed<real>(call)), stride(c.tile > 1 ? round_up(c.tile) : 1),
          gradient_offset(stride * (c.X_offset + (gathers() ? c.data.d : 0))),
          scratch_size(round_up(gradient_offset + (c.own_gradients ? c.n_parameters : 0))),
          memory(new real[size_t(n_threads) * scratch_size + 64 / sizeof(real)])
    {
    }

    double loss_gradient(void *gradient) override
    {
        const FlushDenormals flush;
        real *G = static_cast<real *>(gradient);
        if (G && c.data.n == 0)
            std::fill(G, G + c.n_parameters, real(0));
        const double loss = backprop(0, c.data.n, G, sum_of_gradients(1));
        if (G && c.own_gradients)
            pool->run([&](int chunk, int) { sum_gradients(G, chunk); });
        return loss;
    }

    void epoch(const UpdateRule &rule, long long n_steps, ptrdiff_t batch_size,
               double *loss_sum, ptrdiff_t *n_done) override
    {
        const FlushDenormals flush;
        /* theta may change at once if all rows of a batch are processed before it does. */
        const bool in_place = !c.velocity && rule.max_gradient_norm <= 0 && !c.own_gradients
                              && std::min(batch_size, c.data.n) <= c.tile * pool->n_threads;
        if (in_place && batch_size == 1 && c.n_layers == 1 && c.K == 1
            && c.output == LOGISTIC)
            return single_unit_epoch(rule, loss_sum, n_done);
        if (in_place && takes_blocks(rule, batch_size))
            return epoch_in_blocks(rule, batch_size, loss_sum, n_done);
        if (!in_place && !step_gradient)
            step_gradient.reset(new real[c.n_parameters]);
        for (ptrdiff_t m; *n_done < c.data.n; *n_done += m, n_steps++) {
            m = std::min(batch_size, c.data.n - *n_done);
            const double loss = in_place ? step_in_place(rule, *n_done, m)
                                         : step_on_rows(rule, n_steps, *n_done, m);
            if (pool->interrupted)
                break;
            *loss_sum += loss;
            if (!std::isfinite(loss))
                break;
        }
        unscale_weights();
    }

    void step(const UpdateRule &rule, long long n_steps, void *gradient) override
    {
        const FlushDenormals flush;
        update_parameters(rule, n_steps, static_cast<real *>(gradient));
    }

    bool outputs(bool check_finite, void *Z) override
    {
        const FlushDenormals flush;
        const ptrdiff_t n = c.data.n, K = c.K;
        std::atomic<ptrdiff_t> next{0};
        std::atomic<bool> finite{true};
        pool->run([&](int chunk, int thread) {
            for (ptrdiff_t start; finite && (start = next.fetch_add(c.tile)) < n;) {
                const Tile<real> tile = {start, std::min(c.tile, n - start), scratch(chunk),
                                         stride, panel(thread)};
                if (!may_continue(thread, tile.m))
                    break;
                if (check_finite
                    && !all_finite(c.data.X + start * c.data.d, tile.m * c.data.d)) {
                    finite = false;
                    break;
                }
                first_layer(c, tile, 1);
                std::memcpy(static_cast<real *>(Z) + start * K, further_layers(c, tile),
                            tile.m * K * sizeof(real));
            }
        });
        return finite;
    }

  private:
    const Call<real> c;
    const ptrdiff_t stride;          /* rows of a tile, rounded up */
    const ptrdiff_t gradient_offset; /* of a thread's own gradient in its memory */
    const ptrdiff_t scratch_size;    /* of one thread */
    const std::unique_ptr<real[]> memory;
    std::unique_ptr<real[]> step_gradient; /* of a step that is not made in place */
    WeightScale W_scale;                   /* for sparse rows, within an epoch */
    double n_multiplications = 0;          /* since the last check for signals */

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
            const FlushDenormals not_in_python(false);
            n_multiplications = 0;
            if (c.check_signals())
                pool->interrupted = true;
        }
        return !pool->interrupted;
    }

    static ptrdiff_t round_up(ptrdiff_t n) { return (n + 15) / 16 * 16; }

    /* Whether dense rows may be gathered in scratch memory. */
    bool gathers() const { return c.data.standardizer || (!c.data.sparse && c.data.order); }

    /* Scratch memory of a chunk, aligned to 64 bytes. */
    real *scratch(int chunk) const
    {
        const auto start = (reinterpret_cast<uintptr_t>(memory.get()) + 63) / 64 * 64;
        return reinterpret_cast<real *>(start) + chunk * scratch_size;
    }
    real *own_gradient(int chunk) const { return scratch(chunk) + gradient_offset; }
    real *panel(int thread) const { return static_cast<real *>(pool->panel(thread)); }

    /* The tile with all rows of a chunk of m rows. */
    Tile<real> chunk_of_rows(ptrdiff_t start, ptrdiff_t m, int chunk, int thread) const
    {
        const ptrdiff_t first = m * chunk / pool->n_threads;
        return {start + first, m * (chunk + 1) / pool->n_threads - first, scratch(chunk),
                stride, panel(thread)};
    }

    /* Four kinds of steps */

    /* SGD on single rows with one sigmoid unit */
    void single_unit_epoch(const UpdateRule &rule, double *loss_sum, ptrdiff_t *n_done)
    {
        /* Bounds the work between two checks for Ctrl-C. */
        const ptrdiff_t interval(1 + CHECK_INTERVAL / multiplications_per_row());
        double loss = 0;
        while (*n_done < c.data.n && std::isfinite(loss)) {
            const ptrdiff_t n_rows = std::min(interval, c.data.n - *n_done);
            if (!may_continue(0, n_rows))
                break;
            loss = 0;
            *n_done += sgd_single_unit(c.data, *n_done, n_rows, rule, c.theta,
                                       scratch(0) + stride * c.X_offset, &W_scale.s, &loss);
            *loss_sum += loss;
        }
        unscale_weights();
    }

    /* Plain steps on few dense rows, several with one pass over W_1 */
    bool takes_blocks(const UpdateRule &rule, ptrdiff_t batch_size) const
    {
        return c.data.dense() && pool->n_threads == 1 && rule.eta * rule.alpha < 0.01
               && rows_of_block(c, batch_size) > 0;
    }

    void epoch_in_blocks(const UpdateRule &rule, ptrdiff_t batch_size, double *loss_sum,
                         ptrdiff_t *n_done)
    {
        const ptrdiff_t block_rows = rows_of_block(c, batch_size);
        double loss = 0;
        while (*n_done < c.data.n && std::isfinite(loss)) {
            const ptrdiff_t n_rows = std::min(block_rows, c.data.n - *n_done);
            if (!may_continue(0, n_rows))
                break;
            loss = 0;
            *n_done += block_of_steps(c, {*n_done, n_rows, scratch(0), stride, panel(0)},
                                      batch_size, rule, &loss);
            *loss_sum += loss;
        }
    }

    /* W = W - eta alpha W - eta / m dE/dW, E the sum of the losses: no gradient is stored.
       Returns E. */
    double step_in_place(const UpdateRule &rule, ptrdiff_t start, ptrdiff_t m)
    {
        return backprop(start, m, c.theta,
                        {-rule.eta / m, rule.eta * rule.alpha, true, 1, 1});
    }

    /* A step by any rule, along a stored gradient. Returns E, or NaN instead of a step. */
    double step_on_rows(const UpdateRule &rule, long long n_steps, ptrdiff_t start,
                        ptrdiff_t m)
    {
        real *G = step_gradient.get();
        const double loss = backprop(start, m, G, sum_of_gradients(1.0 / m));
        return std::isfinite(loss) && !update_parameters(rule, n_steps, G) ? NAN : loss;
    }

    void unscale_weights()
    {
        if (W_scale.s != 1)
            scale(c.theta, c.layers[0].b, real(W_scale.take()));
    }

    /* Updates along a gradient, in chunks of theta */

    /* The offset in theta at which a chunk of the parameters begins: a multiple of 16, so
       that chunks are whole cache lines. */
    ptrdiff_t first_parameter(int chunk) const
    {
        const ptrdiff_t n = c.n_parameters;
        return chunk == pool->n_threads ? n : n * chunk / pool->n_threads / 16 * 16;
    }

    /* Call body(slice, penalized) for each part of a W_l or b_l in a chunk of the
       parameters. */
    template <class Body> void for_each_slice(real *G, int chunk, const Body &body) const
    {
        const ptrdiff_t begin = first_parameter(chunk), end = first_parameter(chunk + 1);
        for (const Layer &layer : c.layers)
            for (int part = 0; part < 2; part++) {
                const ptrdiff_t bounds[] = {layer.W, layer.b, layer.b + layer.fan_out};
                const ptrdiff_t first = std::max(bounds[part], begin);
                const ptrdiff_t n = std::min(bounds[part + 1], end) - first;
                if (n <= 0)
                    continue;
                real *v = c.velocity ? c.velocity + first : nullptr;
                real *u = c.second_moment ? c.second_moment + first : nullptr;
                body(ParameterSlice<real>{n, c.theta + first, G + first, v, u}, part == 0);
            }
    }

    /* Add the gradients of all threads in G, for a chunk of the parameters. */
    void sum_gradients(real *G, int chunk)
    {
        const ptrdiff_t first = first_parameter(chunk);
        const ptrdiff_t n = first_parameter(chunk + 1) - first;
        for (int other = 1; c.own_gradients && other < pool->n_threads; other++)
            add_scaled(G + first, own_gradient(other) + first, n, real(1));
    }

    /* One step along the gradient G of the cross-entropy; b has no penalty. Returns false,
       without a step, if the norm of the gradient is limited and not finite. */
    bool update_parameters(const UpdateRule &rule, long long n_steps, real *G)
    {
        const bool limited = rule.max_gradient_norm > 0;
        double eta = rule.eta, factor = 1;
        if (rule.adam)
            /* eta sqrt(1 - beta_2^t) / (1 - beta_1^t) */
            eta *= std::sqrt(1 - std::pow(rule.beta_2, double(n_steps + 1)))
                   / (1 - std::pow(rule.beta_1, double(n_steps + 1)));
        if (limited) {
            /* g = g min(1, c / ||g||),  g = G + alpha W */
            const double norm = std::sqrt(pool->sum([&](int chunk, int) {
                double squares = 0;
                sum_gradients(G, chunk);
                for_each_slice(G, chunk, [&](ParameterSlice<real> s, bool penalized) {
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
        pool->run([&](int chunk, int) {
            if (!limited)
                sum_gradients(G, chunk);
            for_each_slice(G, chunk, [&](ParameterSlice<real> s, bool penalized) {
                if (factor < 1)
                    scale(s.gradient, s.n, real(factor));
                /* If the norm is limited, the gradient already includes the penalty. */
                update(rule, eta, penalized && !limited ? rule.alpha : 0, s);
            });
        });
        return true;
    }

    /* Losses and gradients, in chunks or tiles of the rows */

    /* G = factor times the sum of the gradients of the rows */
    static Accumulation sum_of_gradients(double factor) { return {factor, 0, false, 1, 1}; }

    /* The mode for further tiles of a batch: decay and rescaling are done. */
    static Accumulation after_first_tile(Accumulation mode)
    {
        return {mode.scale, 0, true, 1, mode.W_scale};
    }

    /* sum_i w_i l_i over m rows; adds its gradient to G, unless G is nullptr. The result is
       not finite as soon as the loss of a tile is not, or when Python ends the call. G is
       then incomplete, but unchanged if this happened in the first tile. */
    double backprop(ptrdiff_t start, ptrdiff_t m, real *G, Accumulation mode)
    {
        if (!G || c.own_gradients)
            return pool->sum([&](int chunk, int thread) {
                return backprop_chunk(start, m, chunk, thread, G, mode);
            });
        const ptrdiff_t stop = start + m;
        double loss = 0;
        for (; start < stop; start += m) {
            m = std::min(pool->n_threads * c.tile, stop - start);
            loss += pool->sum([&](int chunk, int thread) {
                const Tile<real> tile = chunk_of_rows(start, m, chunk, thread);
                if (!may_continue(thread, tile.m))
                    return double(NAN);
                return forward_backward(c, tile, W_scale.s, true);
            });
            if (!std::isfinite(loss))
                break;
            if (!c.data.dense() && mode.decay != 0)
                mode.rescale = W_scale.decay_by(mode.decay);
            mode.W_scale = W_scale.s;
            pool->run([&](int chunk, int thread) {
                Accumulation next = mode;
                for (int r = 0; r < pool->n_threads; r++) {
                    const Tile<real> tile = chunk_of_rows(start, m, r, thread);
                    if (tile.m == 0)
                        continue;
                    add_gradient(c, tile, chunk, pool->n_threads, G, next);
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
        real *own = chunk > 0 && G ? own_gradient(chunk) : G;
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
};

} // namespace TARGET_NAME
} // namespace skbgd
END_TARGET();
#endif
