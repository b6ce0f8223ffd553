/* Checks the compiled core without Python, for each instruction set and type: products of
 * all small shapes, functions, gradients, and an epoch of descent by every rule.
 *
 * The references are plain loops in double. Each array begins or ends at a page that cannot
 * be accessed, and has a guard on its other side, NaN where it is read and a pattern where
 * it is written. Built and run by .ci/platforms; prints what is wrong, and exits with 1 if
 * anything is.
 */
#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#ifdef _WIN32
#define NOMINMAX 1
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <sys/mman.h>
#endif

#include "../skbgd/_core/interface.hpp"

using namespace skbgd;

static int n_checks = 0, n_wrong = 0;
static std::string where;

static void check(bool right, const char *what, double got = 0, double expected = 0)
{
    n_checks++;
    if (right)
        return;
    if (++n_wrong <= 20)
        printf("WRONG %s: %s: got %.17g, not %.17g\n", where.c_str(), what, got, expected);
}

template <class real> static void check_close(const char *what, real got, double expected,
                                              double bound)
{
    check(std::fabs((double)got - expected) <= bound, what, (double)got, expected);
}

/* A generator of its own, for the same numbers everywhere. */
static uint64_t state = 1;
static double uniform()
{
    state += 0x9E3779B97F4A7C15ULL;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0 * 2 - 1;
}

/* Memory between two pages that cannot be accessed; it is used again later. */
class Pages {
  public:
    explicit Pages(size_t n_bytes) : size((n_bytes + PAGE - 1) / PAGE * PAGE)
    {
        std::vector<char *> &unused = unused_of_size()[size];
        if (unused.empty())
            unused.push_back(allocate(size));
        memory = unused.back();
        unused.pop_back();
    }
    ~Pages() { unused_of_size()[size].push_back(memory); }
    Pages(const Pages &) = delete;

    char *memory;
    const size_t size;

  private:
    enum : size_t { PAGE = 1 << 16 }; /* a multiple of each system's */
    static std::map<size_t, std::vector<char *>> &unused_of_size()
    {
        static std::map<size_t, std::vector<char *>> result;
        return result;
    }
    static char *allocate(size_t size)
    {
#ifdef _WIN32
        void *all = VirtualAlloc(nullptr, size + 2 * PAGE, MEM_RESERVE, PAGE_NOACCESS);
        char *memory = (char *)all + PAGE;
        if (!all || !VirtualAlloc(memory, size, MEM_COMMIT, PAGE_READWRITE))
            std::abort();
#else
        void *all = mmap(nullptr, size + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
                         -1, 0);
        char *memory = (char *)all + PAGE;
        if (all == MAP_FAILED || mprotect(memory, size, PROT_READ | PROT_WRITE) != 0)
            std::abort();
#endif
        return memory;
    }
};

/* An array that begins or ends where a page does, at random, with a guard on its other
   side. */
template <class real> class Guarded {
  public:
    enum { GUARD = 67 };
    const ptrdiff_t n;
    explicit Guarded(ptrdiff_t n, real guard = std::numeric_limits<real>::quiet_NaN())
        : n(n), guard(guard), pages((n + GUARD) * sizeof(real))
    {
        const bool at_end = uniform() > 0;
        real *const begin = (real *)pages.memory, *const end = (real *)(pages.memory
                                                                        + pages.size);
        elements = at_end ? end - n : begin;
        guards = at_end ? elements - GUARD : elements + n;
        std::fill(guards, guards + GUARD, guard);
        for (ptrdiff_t i = 0; i < n; i++)
            elements[i] = (real)uniform();
    }
    real *data() { return elements; }
    real &operator[](ptrdiff_t i) { return elements[i]; }
    void check_guards(const char *what)
    {
        for (ptrdiff_t i = 0; i < GUARD; i++)
            check_same(what, guards[i]);
    }
    void check_same(const char *what, real value)
    {
        check(std::memcmp(&value, &guard, sizeof value) == 0, what, (double)value,
              (double)guard);
    }

  private:
    const real guard;
    Pages pages;
    real *elements, *guards;
};

/* C = P - decay P + scale A B in every order of A and B, with and without gaps between the
   rows, from P = 0, one row for all, or C. */
template <class real>
static void check_product(const Kernels &core, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k,
                          int variant)
{
    const bool A_transposed = variant & 1, B_transposed = variant & 2;
    const ptrdiff_t gap = variant & 4 ? 3 : 0;
    const int start = variant / 8 % 3;
    const double scale = variant & 1 ? -0.3 : 1, decay = start == 2 ? 0.25 : 0;
    const ptrdiff_t ld_A = (A_transposed ? m : k) + gap,
                    ld_B = (B_transposed ? k : n) + gap;
    const ptrdiff_t ld_C = n + gap;
    const real pattern = (real)123.25;
    /* The last row ends without a gap. */
    Guarded<real> A((A_transposed ? k : m) * ld_A - gap),
        B((B_transposed ? n : k) * ld_B - gap);
    Guarded<real> C(m * ld_C - gap, pattern), bias(n);
    for (ptrdiff_t i = 0; gap && i < m - 1; i++)
        std::fill(&C[i * ld_C + n], &C[i * ld_C + n] + gap, pattern);
    std::vector<double> expected(m * n), bound(m * n);
    const double eps = std::numeric_limits<real>::epsilon();
    for (ptrdiff_t i = 0; i < m; i++)
        for (ptrdiff_t j = 0; j < n; j++) {
            double sum = 0, size = 0;
            for (ptrdiff_t t = 0; t < k; t++) {
                const double product = (double)A[A_transposed ? t * ld_A + i : i * ld_A + t]
                                       * B[B_transposed ? j * ld_B + t : t * ld_B + j];
                sum += product;
                size += std::fabs(product);
            }
            const double P = start == 0   ? 0
                             : start == 1 ? (double)bias[j]
                                          : (double)C[i * ld_C + j];
            expected[i * n + j] = P - decay * P + scale * sum;
            bound[i * n + j] = eps * (k + 4) * (size + 4);
        }
    ThreadPool pool(1);
    const real *P[] = {nullptr, bias.data(), C.data()};
    const Product<void> product = {
        m,
        n,
        k,
        {A.data(), A_transposed ? 1 : ld_A, A_transposed ? ld_A : 1},
        {B.data(), B_transposed ? 1 : ld_B, B_transposed ? ld_B : 1},
        scale,
        decay,
        P[start],
        start == 1 ? 0 : ld_C,
        C.data(),
        ld_C,
        pool.panel(0)};
    char name[80];
    snprintf(name, sizeof name, "product %dx%dx%d, variant %d", (int)m, (int)n, (int)k,
             variant);
    core.product(product);
    for (ptrdiff_t i = 0; i < m; i++) {
        for (ptrdiff_t j = 0; j < n; j++)
            check_close(name, C[i * ld_C + j], expected[i * n + j], bound[i * n + j]);
        for (ptrdiff_t g = 0; i < m - 1 && g < gap; g++)
            C.check_same(name, C[i * ld_C + n + g]);
    }
    C.check_guards(name);
}

template <class real> static void check_products(const Kernels &core)
{
    std::vector<ptrdiff_t> sizes = {33, 63, 64, 65, 100};
    for (ptrdiff_t n = 20; n > 0; n--)
        sizes.insert(sizes.begin(), n);
    int variant = 0;
    for (ptrdiff_t m : sizes)
        for (ptrdiff_t n : sizes)
            for (ptrdiff_t k : {1, 2, 3, 4, 7, 16, 37}) {
                /* All 24 variants of each k in turns; of small shapes half of them. */
                const int n_variants = m <= 20 && n <= 20 ? 12 : 2;
                for (int i = 0; i < n_variants; i++)
                    check_product<real>(core, m, n, k, variant++ % 24);
                variant++;
            }
    /* Few rows or a small k, in every width of the last vector. */
    for (ptrdiff_t n = 1; n <= 70; n++)
        for (ptrdiff_t k = 1; k <= 9; k++)
            for (ptrdiff_t m : {1, 2, 9, 17})
                for (int i = 0; i < 6; i++)
                    check_product<real>(core, m, n, k, (variant += 5) % 24);
    for (ptrdiff_t m : {1, 5, 70})
        for (ptrdiff_t n : {1, 10, 50})
            for (int v = 0; v < 24; v++)
                check_product<real>(core, m, n, 1100, v); /* in several panels */
}

/* Functions of one number against those of libm in the widest type. */
template <class real> static void check_functions(const Kernels &core)
{
    typedef long double wide;
    const double limit = sizeof(real) == 4 ? 87 : 708,
                 eps = std::numeric_limits<real>::epsilon();
    enum { N = 20011 };
    const struct {
        Activation code;
        const char *name;
        wide (*expected)(wide z);
    } functions[] = {
        {LOGISTIC, "logistic", [](wide z) { return 1 / (1 + std::exp(-z)); }},
        {TANH, "tanh", [](wide z) { return std::tanh(z); }},
        {RELU, "relu", [](wide z) { return z > 0 ? z : 0; }},
        {IDENTITY, "identity", [](wide z) { return z; }},
    };
    for (const auto &f : functions) {
        Guarded<real> z(N, (real)0.5);
        for (ptrdiff_t i = 0; i < N; i++)
            z[i] *= i % 2 ? (real)limit : (real)3;
        std::vector<real> before(z.data(), z.data() + N);
        core.activation(f.code, 1, N, z.data());
        for (ptrdiff_t i = 0; i < N; i++) {
            const double expected = (double)f.expected(before[i]);
            check_close(f.name, z[i], expected, 8 * eps * std::fabs(expected));
        }
        z.check_guards(f.name);
        real special[3] = {std::numeric_limits<real>::quiet_NaN(),
                           std::numeric_limits<real>::infinity(),
                           -std::numeric_limits<real>::infinity()};
        core.activation(f.code, 3, 1, special);
        check(special[0] != special[0], "NaN stays NaN", (double)special[0], NAN);
        for (int i : {1, 2}) {
            const double expected = (double)f.expected(i == 1 ? INFINITY : -INFINITY);
            check((double)special[i] == expected, f.name, (double)special[i], expected);
        }
    }
}

struct Problem {
    std::vector<ptrdiff_t> units;
    Activation hidden, output;
    bool sparse;
    int n_threads;
    bool own_gradients;
};

enum { ROWS = 53, TILE = 16 };

Network network_of(const Problem &p)
{
    Network network;
    network.hidden = p.hidden;
    network.output = p.output;
    for (size_t l = 1; l < p.units.size(); l++)
        network.add_layer(p.units[l - 1], p.units[l]);
    return network;
}

/* A network with its rows. */
template <class real> class Example {
  public:
    const Problem p;
    const Network network;
    const std::vector<Layer> &layers;
    const ptrdiff_t n_parameters;
    Guarded<real> theta, gradient, velocity, second_moment, X, weights;
    std::vector<real> elements;
    std::vector<int> indices, indptr, Y;
    std::vector<ptrdiff_t> order;
    Call<void> call;

    explicit Example(const Problem &problem)
        : p(problem), network(network_of(p)), layers(network.layers),
          n_parameters(network.n_parameters), theta(n_parameters),
          gradient(n_parameters, (real)0.5), velocity(n_parameters, (real)0.5),
          second_moment(n_parameters, (real)0.5), X(ROWS * p.units[0]), weights(ROWS),
          call()
    {
        const ptrdiff_t d = p.units[0];
        indptr.push_back(0);
        for (ptrdiff_t i = 0; i < ROWS; i++) {
            for (ptrdiff_t j = 0; j < d; j++) {
                if (p.sparse && uniform() > 0)
                    X[i * d + j] = 0;
                if (X[i * d + j] != 0) {
                    elements.push_back(X[i * d + j]);
                    indices.push_back((int)j);
                }
            }
            indptr.push_back((int)elements.size());
            Y.push_back((int)((uniform() + 1) / 2 * std::max<ptrdiff_t>(network.K, 2)));
            weights[i] = (real)(1 + uniform() / 2);
            order.push_back(i * 17 % ROWS);
        }
        static_cast<Network &>(call) = network;
        call.theta = theta.data();
        Data<void> &data = call.data;
        data.n = ROWS, data.d = d, data.sparse = p.sparse;
        data.X = p.sparse ? elements.data() : X.data();
        data.indices = indices.data(), data.indptr = indptr.data();
        data.Y = Y.data(), data.n_targets = 1;
        data.weights = weights.data(), data.order = order.data();
        call.tile = TILE, call.own_gradients = p.own_gradients;
        call.check_signals = [] { return 0; };
    }

    /* sum_i w_i l_i over rows first ... last - 1 of the order, in plain loops and double. */
    double plain_loss(const std::vector<double> &theta, ptrdiff_t first, ptrdiff_t last)
    {
        double total = 0;
        for (ptrdiff_t i = first; i < last; i++) {
            const ptrdiff_t row = order[i], d = p.units[0];
            std::vector<double> a(X.data() + row * d, X.data() + (row + 1) * d);
            for (const Layer &layer : layers) {
                std::vector<double> z(layer.fan_out);
                for (ptrdiff_t j = 0; j < layer.fan_out; j++) {
                    z[j] = theta[layer.b + j];
                    for (ptrdiff_t t = 0; t < layer.fan_in; t++)
                        z[j] += a[t] * theta[layer.W + t * layer.fan_out + j];
                    if (&layer != &layers.back())
                        z[j] = p.hidden == TANH               ? std::tanh(z[j])
                               : p.hidden == LOGISTIC         ? 1 / (1 + std::exp(-z[j]))
                               : p.hidden == RELU && z[j] < 0 ? 0
                                                              : z[j];
                }
                a = z;
            }
            double loss = 0, sum = 0;
            const ptrdiff_t K = (ptrdiff_t)a.size();
            for (ptrdiff_t k = 0; k < K; k++) {
                const double y = K == 1 ? Y[row] : Y[row] == k;
                sum += std::exp(a[k]);
                loss += p.output == SOFTMAX ? -y * a[k]
                                            : std::log1p(std::exp(a[k])) - y * a[k];
            }
            total += weights[row] * (p.output == SOFTMAX ? loss + std::log(sum) : loss);
        }
        return total;
    }

    /* The gradient of this by differences. */
    std::vector<double> plain_gradient(std::vector<double> theta, ptrdiff_t first,
                                       ptrdiff_t last)
    {
        std::vector<double> result;
        for (double &parameter : theta) {
            const double before = parameter, h = 1e-5;
            parameter = before + h;
            const double above = plain_loss(theta, first, last);
            parameter = before - h;
            result.push_back((above - plain_loss(theta, first, last)) / (2 * h));
            parameter = before;
        }
        return result;
    }

    void check_guards(const char *what)
    {
        theta.check_guards(what), gradient.check_guards(what), velocity.check_guards(what);
        second_moment.check_guards(what);
    }

    /* body(core) while other threads work for the core */
    void with_core(const Kernels &kernels, const std::function<void(Core &)> &body)
    {
        const std::unique_ptr<Core> core = kernels.make_core(call, p.n_threads);
        std::vector<std::thread> workers;
        for (int i = 1; i < p.n_threads; i++)
            workers.emplace_back([&core] { core->pool->run_worker(); });
        body(*core);
        core->pool->stop();
        for (std::thread &worker : workers)
            worker.join();
    }
};

static const std::vector<Problem> problems = {
    {{5, 1}, TANH, LOGISTIC, false, 1, false},
    {{5, 1}, TANH, LOGISTIC, true, 1, false},
    {{5, 3}, TANH, SOFTMAX, false, 1, false},
    {{7, 9, 1}, LOGISTIC, LOGISTIC, false, 1, false},
    {{7, 9, 5, 3}, TANH, SOFTMAX, false, 2, false},
    {{7, 9, 5, 3}, TANH, SOFTMAX, false, 3, true},
    {{6, 17, 3}, RELU, LOGISTIC, true, 2, false},
    {{6, 4, 40}, IDENTITY, SOFTMAX, true, 1, false},
};

static const char *name_of(const Problem &p)
{
    static char name[80];
    snprintf(name, sizeof name, "problem %d", (int)(&p - problems.data()));
    return name;
}

template <class real> static void check_gradients(const Kernels &core)
{
    for (const Problem &problem : problems) {
        Example<real> example(problem);
        const std::vector<double> theta(example.theta.data(),
                                        example.theta.data() + example.n_parameters);
        const double expected = example.plain_loss(theta, 0, ROWS);
        const std::vector<double> gradient = example.plain_gradient(theta, 0, ROWS);
        double loss = 0, alone = 0;
        example.with_core(core, [&](Core &bound) {
            alone = bound.loss_gradient(nullptr);
            loss = bound.loss_gradient(example.gradient.data());
        });
        const double bound = sizeof(real) == 4 ? 1e-4 : 1e-6;
        check_close(name_of(problem), loss, expected, bound * expected);
        check_close(name_of(problem), alone, expected, bound * expected);
        for (ptrdiff_t i = 0; i < example.n_parameters; i++)
            check_close(name_of(problem), example.gradient[i], gradient[i],
                        bound * (ROWS + std::fabs(gradient[i])));
        example.check_guards(name_of(problem));
        if (problem.n_threads > 1)
            continue;
        example.call.data.order = nullptr;
        Guarded<real> out(ROWS * example.call.K, (real)0.5);
        check(core.make_core(example.call, 1)->outputs(false, out.data()), "outputs");
        core.activation(problem.output, ROWS, example.call.K, out.data());
        for (ptrdiff_t i = 0; problem.output == SOFTMAX && i < ROWS; i++) {
            double sum = 0;
            for (ptrdiff_t k = 0; k < example.call.K; k++)
                sum += (double)out[i * example.call.K + k];
            check_close("sum of probabilities", sum, 1, 1e-5);
        }
        out.check_guards("outputs");
    }
}

/* An epoch by each rule, against the rule in plain loops on gradients by differences. */
template <class real> static void check_descent(const Kernels &core)
{
    enum { PLAIN, MOMENTUM, NESTEROV, ADAM, N_RULES };
    for (const Problem &problem : problems)
        for (int kind = 0; kind < N_RULES; kind++)
            for (ptrdiff_t batch :
                 {(ptrdiff_t)1, (ptrdiff_t)2, (ptrdiff_t)7, (ptrdiff_t)ROWS}) {
                /* On its way a relu comes too near to its kink for differences. */
                if ((batch < 7 && kind != PLAIN) || problem.hidden == RELU)
                    continue;
                Example<real> example(problem);
                UpdateRule rule = {0.1, 0.01,         kind == PLAIN ? 0 : 0.9,
                                   0.9, 0.999,        1e-8,
                                   0,   kind == ADAM, kind == NESTEROV};
                std::vector<double> theta(example.theta.data(),
                                          example.theta.data() + example.n_parameters);
                std::vector<double> v(theta.size()), u(theta.size());
                for (size_t i = 0; i < v.size(); i++)
                    example.velocity[i] = example.second_moment[i] = 0;
                double expected = 0, loss = 0;
                for (ptrdiff_t first = 0, step = 1; first < ROWS; first += batch, step++) {
                    const ptrdiff_t last = std::min<ptrdiff_t>(first + batch, ROWS);
                    expected += example.plain_loss(theta, first, last);
                    std::vector<double> g = example.plain_gradient(theta, first, last);
                    for (const Layer &layer : example.layers)
                        for (ptrdiff_t i = layer.W; i < layer.b + layer.fan_out; i++) {
                            g[i] = g[i] / (last - first)
                                   + (i < layer.b ? rule.alpha * theta[i] : 0);
                            if (kind == ADAM) {
                                v[i] = rule.beta_1 * v[i] + (1 - rule.beta_1) * g[i];
                                u[i] = rule.beta_2 * u[i] + (1 - rule.beta_2) * g[i] * g[i];
                                theta[i] -= rule.eta
                                            * std::sqrt(1 - std::pow(rule.beta_2, step))
                                            / (1 - std::pow(rule.beta_1, step)) * v[i]
                                            / (std::sqrt(u[i]) + rule.epsilon);
                            } else {
                                v[i] = rule.momentum * v[i] - rule.eta * g[i];
                                theta[i] += kind == NESTEROV
                                                ? rule.momentum * v[i] - rule.eta * g[i]
                                                : v[i];
                            }
                        }
                }
                if (kind != PLAIN)
                    example.call.velocity = example.velocity.data();
                if (kind == ADAM)
                    example.call.second_moment = example.second_moment.data();
                ptrdiff_t n_done = 0;
                example.with_core(core, [&](Core &bound) {
                    bound.epoch(rule, 0, batch, &loss, &n_done);
                });
                char name[120];
                snprintf(name, sizeof name, "%s, rule %d, batches of %d", name_of(problem),
                         kind, (int)batch);
                /* Adam divides by the size of the gradient, errors of differences included. */
                const double bound = sizeof(real) == 4 ? 2e-3 : kind == ADAM ? 1e-4 : 1e-7;
                check(n_done == ROWS, name, (double)n_done, ROWS);
                check_close(name, loss, expected, bound * expected);
                for (ptrdiff_t i = 0; i < example.n_parameters; i++)
                    check_close(name, example.theta[i], theta[i],
                                bound * (1 + std::fabs(theta[i])));
                example.check_guards(name);
            }
}

template <class real> static void check_all(const char *set, const char *type,
                                            const Kernels &core)
{
    const struct {
        const char *name;
        void (*run)(const Kernels &core);
    } parts[] = {{"products", check_products<real>},
                 {"functions", check_functions<real>},
                 {"gradients", check_gradients<real>},
                 {"descent", check_descent<real>}};
    for (const auto &part : parts) {
        const int checks = n_checks, wrong = n_wrong;
        state = 1; /* the same numbers for each instruction set */
        where = std::string(set) + " " + type + " " + part.name;
        part.run(core);
        printf("%-26s %9d checks, %d wrong\n", where.c_str(), n_checks - checks,
               n_wrong - wrong);
        fflush(stdout);
    }
}

static void stop_outside(int)
{
    printf("WRONG %s: an array is read or written outside its bounds\n", where.c_str());
    fflush(stdout);
    std::_Exit(1);
}

int main()
{
    std::signal(SIGSEGV, stop_outside);
    for (const InstructionSet *set :
         {baseline_instruction_set(), avx2_instruction_set(), avx512_instruction_set()}) {
        if (!set)
            continue;
        check_all<float>(set->name, "float", set->f32);
        check_all<double>(set->name, "double", set->f64);
    }
    return n_wrong > 0;
}
