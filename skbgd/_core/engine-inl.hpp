/* Batches, steps and predictions, by a pool of threads; and the entry points to them.
 *
 * What a pool divides is either the rows or the weights. Where a batch has many rows, each
 * thread takes its chunk of them through the network and back, tile by tile, and sums up a
 * gradient of its own. Else, and for sparse rows, each takes one tile of rows; when all have
 * done so each adds its chunk of the rows of every W_l to the one gradient, from the rows
 * of all tiles.
 */
template <class real> class Engine {
  public:
    explicit Engine(const Call<void> &call) : c(typed<Call<real>>(call)), pool(*call.pool) {}

    /* sum_i w_i l_i over m rows, and its gradient into G, unless that is NULL. Not finite as
       soon as that of a tile is not, and where Python wants the call to end; G is then
       partly written, but not if it was the first tile. */
    double backprop(ptrdiff_t start, ptrdiff_t m, real *G, Accumulation how)
    {
        if (!G || c.gradient_offset)
            return pool.sum([&](int chunk, int thread) {
                return backprop_chunk(start, m, chunk, thread, G, how);
            });
        const ptrdiff_t stop = start + m;
        double loss = 0;
        for (; start < stop; start += m) {
            m = std::min(pool.n_threads * c.tile, stop - start);
            loss += pool.sum([&](int chunk, int thread) {
                const Tile<real> tile = tile_of_chunk(start, m, chunk, thread);
                return may_continue(thread, tile.m) ? forward_backward(c, tile, W_scale, true)
                                             : (double)NAN;
            });
            if (!std::isfinite(loss))
                break;
            if (!c.data.dense() && how.decay != 0) {
                /* W_1 = s V decays by s alone, until V has to be scaled. */
                W_scale *= 1 - how.decay;
                if (!in_range(W_scale)) {
                    how.rescale = W_scale;
                    W_scale = 1;
                }
            }
            how.W_scale = W_scale;
            pool.run([&](int chunk, int thread) {
                Accumulation next = how;
                for (int r = 0; r < pool.n_threads; r++) {
                    const Tile<real> tile = tile_of_chunk(start, m, r, thread);
                    if (tile.m == 0)
                        continue;
                    add_gradient(c, tile, chunk, pool.n_threads, G, next);
                    next = after_first_tile(next);
                }
            });
            how = after_first_tile(how);
        }
        return loss;
    }

    /* G = the sum of the gradients of all threads; of a chunk of the parameters */
    void sum_gradients(int chunk)
    {
        const ptrdiff_t first = first_parameter_of_chunk(chunk), n = first_parameter_of_chunk(chunk + 1) - first;
        for (int other = 1; c.gradient_offset && other < pool.n_threads; other++)
            add_scaled(c.gradient + first, thread_gradient(other) + first, n, (real)1);
    }

    /* One step along the gradient of the cross-entropy; b carries no penalty. Returns false
       if its norm is to be limited and not finite. */
    bool step(const UpdateRule &rule, long long n_steps)
    {
        const bool limited = rule.max_gradient_norm > 0;
        double eta = rule.eta, factor = 1;
        if (rule.adam)
            /* eta sqrt(1 - beta_2^t) / (1 - beta_1^t) */
            eta *= std::sqrt(1 - std::pow(rule.beta_2, (double)(n_steps + 1)))
                   / (1 - std::pow(rule.beta_1, (double)(n_steps + 1)));
        if (limited) {
            /* g = g min(1, c / ||g||),  g = G + alpha W */
            const double norm = std::sqrt(pool.sum([&](int chunk, int) {
                double squares = 0;
                sum_gradients(chunk);
                for_each_slice(chunk, [&](ParameterSlice<real> s, bool penalized) {
                    if (penalized)
                        add_scaled(s.gradient, s.theta, s.n, (real)rule.alpha);
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
                    scale(s.gradient, s.n, (real)factor);
                /* Where the norm is limited, the penalty is in the gradient. */
                update(rule, eta, penalized && !limited ? rule.alpha : 0, s);
            });
        });
        return true;
    }

    double loss_gradient()
    {
        if (c.gradient && c.data.n == 0)
            std::fill(c.gradient, c.gradient + c.n_parameters, (real)0);
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
        for (ptrdiff_t m; *n_done < n; *n_done += m, n_steps++) {
            double loss = 0;
            m = std::min(batch_size, n - *n_done);
            if (single_unit) {
                /* As many rows as are over before a Ctrl-C has waited for long. */
                const ptrdiff_t most = std::min((ptrdiff_t)(1 + 1e8 / multiplications_per_row()),
                                                n - *n_done);
                if (!may_continue(0, most))
                    break;
                m = sgd_single_unit(c.data, *n_done, most, rule, c.theta,
                                 scratch(0) + c.stride * c.X_offset, &W_scale, &loss);
                *n_done += std::isfinite(loss) ? 0 : m;
            } else if (in_place) {
                /* W = W - eta alpha W - eta / m dJ/dW: no gradient is stored. */
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
            scale(c.theta, c.layers[0].b, (real)W_scale);
    }

    bool outputs(bool activated, bool check_finite, real *out)
    {
        const ptrdiff_t n = c.data.n, K = c.K;
        std::atomic<ptrdiff_t> next{0};
        std::atomic<bool> finite{true};
        pool.run([&](int chunk, int thread) {
            for (ptrdiff_t start; finite && (start = next.fetch_add(c.tile)) < n;) {
                const Tile<real> tile = {start, std::min(c.tile, n - start), scratch(chunk),
                                         c.stride, (real *)pool.panel(thread)};
                const ptrdiff_t size = tile.m * K;
                if (!may_continue(thread, tile.m))
                    break;
                if (check_finite && !all_finite(c.data.X + start * c.data.d, tile.m * c.data.d)) {
                    finite = false;
                    break;
                }
                real *Z = forward(c, tile, 1);
                if (activated && c.output == SOFTMAX)
                    softmax(tile.m, K, Z, (const int *)NULL, (real *)NULL);
                else if (activated)
                    activate(LOGISTIC, Z, size);
                memcpy(out + start * K, Z, size * sizeof(real));
            }
        });
        return finite;
    }

  private:
    Call<real> c;
    ThreadPool &pool;
    FlushDenormals flush;
    double W_scale = 1; /* s, if theta holds W_1 / s; see `add_gradient` */
    double n_multiplications = 0;    /* multiplications, as a clock that is free to read */

    double multiplications_per_row() const { return 1000.0 + c.n_parameters; }

    /* Whether to begin with so many rows. Some times a second the first thread lets Python
       raise KeyboardInterrupt. */
    bool may_continue(int thread, ptrdiff_t n_rows)
    {
        if (thread == 0 && (n_multiplications += n_rows * multiplications_per_row()) > 1e8) {
            n_multiplications = 0;
            flush.end();
            if (c.check_signals())
                pool.interrupted = true;
            flush.begin();
        }
        return !pool.interrupted;
    }

    real *scratch(int chunk) const { return c.scratch + chunk * c.scratch_size; }
    real *thread_gradient(int chunk) const { return scratch(chunk) + c.gradient_offset; }

    /* Where a chunk of the parameters begins: they are as long as whole cache lines. */
    ptrdiff_t first_parameter_of_chunk(int chunk) const
    {
        const ptrdiff_t n = c.n_parameters;
        return chunk == pool.n_threads ? n : n * chunk / pool.n_threads / 16 * 16;
    }

    /* body(slice, penalized) for all slices of W_l and b_l in a chunk of the parameters */
    template <class Body> void for_each_slice(int chunk, const Body &body) const
    {
        for (ptrdiff_t l = 0; l < c.n_layers; l++)
            for (int part = 0; part < 2; part++) {
                const Layer &layer = c.layers[l];
                const ptrdiff_t ends[] = {layer.W, layer.b, layer.b + layer.fan_out};
                const ptrdiff_t first = std::max(ends[part], first_parameter_of_chunk(chunk));
                const ptrdiff_t n = std::min(ends[part + 1], first_parameter_of_chunk(chunk + 1)) - first;
                if (n > 0)
                    body(ParameterSlice<real>{n, c.theta + first, c.gradient + first,
                                     c.velocity ? c.velocity + first : NULL,
                                     c.second_moment ? c.second_moment + first : NULL},
                         part == 0);
            }
    }

    /* The rows of a chunk of m rows. */
    Tile<real> tile_of_chunk(ptrdiff_t start, ptrdiff_t m, int chunk, int thread) const
    {
        const ptrdiff_t first = m * chunk / pool.n_threads;
        return {start + first, m * (chunk + 1) / pool.n_threads - first, scratch(chunk),
                c.stride, (real *)pool.panel(thread)};
    }

    /* The loss over a chunk of m rows and, if G is given, the gradient: into G itself with
       the first chunk, else into one of its own. */
    double backprop_chunk(ptrdiff_t start, ptrdiff_t m, int chunk, int thread, real *G,
                           Accumulation how)
    {
        real *own = chunk > 0 && G ? thread_gradient(chunk) : G;
        Tile<real> tile = tile_of_chunk(start, m, chunk, thread);
        const ptrdiff_t stop = tile.start + tile.m;
        double loss = 0;
        if (own && tile.m == 0)
            std::fill(own, own + c.n_parameters, (real)0);
        for (; tile.start < stop && std::isfinite(loss); tile.start += tile.m) {
            tile.m = std::min(c.tile, stop - tile.start);
            if (!may_continue(thread, tile.m))
                return NAN;
            loss += forward_backward(c, tile, 1, own != NULL);
            if (own && std::isfinite(loss))
                add_gradient(c, tile, 0, 1, own, how);
            how = after_first_tile(how);
        }
        return loss;
    }

    /* How to add what follows to the same gradient. */
    static Accumulation after_first_tile(Accumulation how)
    {
        return {how.scale, 0, true, 1, how.W_scale};
    }
};

/* The entry points */

template <class real> static double loss_gradient(const Call<void> &call)
{
    return Engine<real>(call).loss_gradient();
}

template <class real>
static void run_batches(const Call<void> &call, const UpdateRule &rule, long long n_steps,
                        ptrdiff_t batch_size, double *loss_sum, ptrdiff_t *n_done)
{
    Engine<real>(call).run_batches(rule, n_steps, batch_size, loss_sum, n_done);
}

template <class real>
static void apply_gradient(const Call<void> &call, const UpdateRule &rule, long long n_steps)
{
    Engine<real>(call).step(rule, n_steps);
}

template <class real>
static bool outputs(const Call<void> &call, bool activated, bool check_finite, void *out)
{
    return Engine<real>(call).outputs(activated, check_finite, (real *)out);
}

/* ||x_i||^2 for each row */
template <class real> static void squared_row_norms(const Call<void> &call, double *norms)
{
    const Data<real> data = typed<Call<real>>(call).data;
    for (ptrdiff_t i = 0; i < data.n; i++)
        if (data.sparse) {
            const SparseRow<real> row(data, i);
            norms[i] = sum_of_squares(row.x, row.nnz);
        } else
            norms[i] = sum_of_squares(data.X + i * data.d, data.d);
}

/* Of each column of n dense rows from `start` on, those with a positive weight:

       low, high, 1 / (high - low) or 0, mean and variance of u, whether one is between

   as the rows of `moments` (6, d). u = (x - low) / (high - low) neither overflows nor loses
   digits where x is far from 0; one is between if low < x < high for an x, then it is 1.
   Returns sum_i w_i. The rows are read more than once: they should fit the cache. */
template <class real>
static double column_moments(const Call<void> &call, ptrdiff_t start, ptrdiff_t n,
                             double *moments)
{
    const Data<real> data = typed<Call<real>>(call).data;
    const ptrdiff_t d = data.d;
    double *low = moments, *high = low + d, *inverse = high + d, *mean = inverse + d;
    double *variance = mean + d, *between = variance + d, total = 0;
    const real *pivot = NULL; /* a row, as sums of differences from it keep their digits */
    const auto weight = [&](ptrdiff_t i) { return data.weights ? (double)data.weights[i] : 1; };
    std::fill(low, high, (double)INFINITY);
    std::fill(high, inverse, -(double)INFINITY);
    std::fill(mean, moments + 6 * d, 0.0);
    for (ptrdiff_t i = start; i < start + n; i++) {
        const real *x = data.X + i * d;
        if (!(weight(i) > 0))
            continue;
        total += weight(i);
        pivot = x;
#pragma omp simd
        for (ptrdiff_t j = 0; j < d; j++) {
            low[j] = x[j] < low[j] ? x[j] : low[j];
            high[j] = x[j] > high[j] ? x[j] : high[j];
        }
    }
    for (ptrdiff_t j = 0; j < d; j++) {
        const double unit = 1 / (high[j] - low[j]);
        inverse[j] = unit > 0 && std::isfinite(unit) ? unit : 0;
    }
    double n_found = 0; /* columns with one between: soon all of them, if numbers vary */
    for (ptrdiff_t i = start; i < start + n && n_found < d; i++) {
        const real *x = data.X + i * d;
        if (!(weight(i) > 0))
            continue;
        n_found = 0;
#pragma omp simd reduction(+ : n_found)
        for (ptrdiff_t j = 0; j < d; j++) {
            between[j] = x[j] > low[j] && x[j] < high[j] ? 1 : between[j];
            n_found += between[j];
        }
    }
    for (ptrdiff_t i = start; i < start + n; i++) {
        const real *x = data.X + i * d;
        const double w = weight(i) / total;
        if (!(w > 0))
            continue;
#pragma omp simd
        for (ptrdiff_t j = 0; j < d; j++) {
            const double v = ((double)x[j] - (double)pivot[j]) * inverse[j];
            mean[j] += w * v;
            variance[j] += w * (v * v);
        }
    }
    for (ptrdiff_t j = 0; pivot && j < d; j++) {
        /* v = u - its value in the pivot */
        variance[j] = std::max(variance[j] - mean[j] * mean[j], 0.0);
        mean[j] += (pivot[j] - low[j]) * inverse[j];
    }
    return total;
}

/* sum_l ||W_l||^2, and the same with sum_l ||b_l||^2 */
template <class real> static void squared_weight_norms(const Call<void> &call, double *norms)
{
    const Call<real> c = typed<Call<real>>(call);
    double intercepts = norms[0] = 0;
    for (const Layer *layer = c.layers; layer < c.layers + c.n_layers; layer++) {
        norms[0] += sum_of_squares(c.theta + layer->W, layer->fan_in * layer->fan_out);
        intercepts += sum_of_squares(c.theta + layer->b, layer->fan_out);
    }
    norms[1] = norms[0] + intercepts;
}

template <class real> static void apply_activation(Activation f, void *Z, ptrdiff_t n)
{
    activate(f, (real *)Z, n);
}

template <class real> static void compute_product(const Product<void> &product)
{
    gemm(typed<Product<real>>(product));
}
