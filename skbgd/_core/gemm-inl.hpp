/* Dense matrix products of any shape: C = P - decay P + scale A B, see `Product`.
 *
 * There are four kernels, named after the dimension that their vectors or loops run along:
 *
 *     gemm_over_n     blocks of rows times vectors of columns, summed in registers; packs B
 *                     into panels for the first-level cache where this pays off
 *     gemm_over_rows  one row of C after the other, for few rows of B
 *     gemm_over_m     the transposed product C^T = B^T A^T, for few columns of C
 *     gemm_over_k     dot products, for few rows or few columns of C
 *
 * `gemm` chooses by an estimate of their costs. The last vector of a row overlaps the one
 * before, or is masked if it is the only one: no width has a slow path of its own. Each
 * element of C is a sum over k whose order depends only on the shape.
 *
 * Whole training steps in float reach these shares of the speed of sgemm on 1024 x 1024
 * matrices, on one thread of a Zen 4 with AVX2: 30-16-1 with 512 rows 48 %, 64-32-10 with
 * 512 rows 62 %, 784-100-10 with 32 rows 71 %, with 512 rows 82 %.
 */
#ifndef SKBGD_GEMM_INL_HPP
#define SKBGD_GEMM_INL_HPP
#include <algorithm>
#include <utility>

#include "simd-inl.hpp"

BEGIN_TARGET();
namespace skbgd {
namespace TARGET_NAME {

/* A matrix with contiguous rows, `ld` elements apart. */
template <class real> ALWAYS_INLINE Matrix<real> row_major(const real *data, ptrdiff_t ld)
{
    return {data, ld, 1};
}

template <class real> ALWAYS_INLINE Matrix<real> transposed(const Matrix<real> &M)
{
    return {M.data, M.column_stride, M.row_stride};
}

/* C = A B with contiguous C. The caller may set scale, decay and P. */
template <class real>
ALWAYS_INLINE Product<real> product(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k,
                                    const Matrix<real> &A, const Matrix<real> &B, real *C,
                                    real *panel)
{
    return {m, n, k, A, B, 1, 0, nullptr, 0, C, n, panel};
}

/* Arguments of `gemm_block`, except for its numbers of rows and vectors. */
template <class real> struct Block {
    ptrdiff_t k;       /* rows of B */
    ptrdiff_t k_whole; /* rows of B that need no masked load, or one that is cheap */
    const real *A;
    ptrdiff_t row_stride, column_stride; /* of A */
    const real *B;
    ptrdiff_t ld_B;
    real scale, decay;
    const real *P;
    ptrdiff_t ld_P;
    real *C;
    ptrdiff_t ld_C;
    ptrdiff_t last;     /* column of the last vector, which may overlap the one before */
    Mask<real> mask{0}; /* of a single vector */
};

/* S = S + A_t B_t for R rows and V vectors. A points to the first row, A_8 to the ninth:
   with a single pointer, the row offsets would need more registers than there are. With
   `whole` the lanes past the last column of a single vector are loaded too; they are never
   stored. */
template <bool whole, int R, int V, class real>
ALWAYS_INLINE void add_products(Vector<real> (&s)[R][V], const Block<real> &x,
                                const real *A, const real *A_8, const real *B)
{
    const real *halves[] = {A, A_8};
    Vector<real> b[V];
    UNROLL
    for (int v = 0; v < V - 1; v++)
        b[v] = load(B + v * Simd<real>::LANES);
    b[V - 1] = V > 1 || whole ? load(B + x.last) : load(B + x.last, x.mask);
    UNROLL
    for (int r = 0; r < R; r++) {
        real a = halves[r / 8][r % 8 * x.row_stride];
        UNROLL
        for (int v = 0; v < V; v++)
            s[r][v] += a * b[v];
    }
}

/* R rows and V vectors of columns of C. A sum in one register would wait for the latency of
   each addition: with fewer than 8 sums, each is split into U partial sums. */
template <class real, int R, int V> static void gemm_block(const Block<real> &block)
{
    constexpr ptrdiff_t LANES = Simd<real>::LANES;
    constexpr int U = R * V >= 8 ? 1 : R * V >= 4 ? 2 : 4;
    Block<real> x = block;
    x.last = V > 1 ? x.last : 0;
    Vector<real> s[U][R][V] = {};
    const real *A = x.A, *A_8 = R > 8 ? A + 8 * x.row_stride : A, *B = x.B;
    ptrdiff_t t = 0;
    optimization_barrier(A_8);
    for (; t + U <= x.k_whole; t += U) {
        UNROLL
        for (int u = 0; u < U; u++)
            add_products<!MASKED_LOADS>(s[u], x, A + u * x.column_stride,
                                        A_8 + u * x.column_stride, B + u * x.ld_B);
        A += U * x.column_stride;
        A_8 += U * x.column_stride;
        B += U * x.ld_B;
    }
    for (; (U > 1 || !MASKED_LOADS) && t < x.k; t++) {
        add_products<false>(s[0], x, A, A_8, B);
        A += x.column_stride;
        A_8 += x.column_stride;
        B += x.ld_B;
    }
    UNROLL
    for (int r = 0; r < R; r++) {
        UNROLL
        for (int v = 0; v < V; v++) {
            Vector<real> sum = s[0][r][v];
            if (U == 2)
                sum = sum + s[U - 1][r][v];
            if (U == 4)
                sum = (sum + s[U - 3][r][v]) + (s[U - 2][r][v] + s[U - 1][r][v]);
            s[0][r][v] = x.scale * sum;
        }
    }
    if (x.P) {
        UNROLL
        for (int r = 0; r < R; r++) {
            const real *P = x.P + r * x.ld_P;
            UNROLL
            for (int v = 0; v < V; v++) {
                Vector<real> p = v < V - 1 ? load(P + v * LANES)
                                 : V > 1   ? load(P + x.last)
                                           : load(P + x.last, x.mask);
                s[0][r][v] = (s[0][r][v] - x.decay * p) + p;
            }
        }
    }
    UNROLL
    for (int r = 0; r < R; r++) {
        real *C = x.C + r * x.ld_C;
        UNROLL
        for (int v = 0; v < V - 1; v++)
            store(C + v * LANES, s[0][r][v]);
        if (V > 1)
            store(C + x.last, s[0][r][V - 1]);
        else
            store(C + x.last, s[0][r][V - 1], x.mask);
    }
}

/* The sums of a block, V vectors of B and values of A fill the registers. AVX-512 reads a
   value of A from memory while it multiplies by it; NEON first loads several. */
#if VECTOR_BYTES == 64
constexpr int MAX_VECTORS = 4;
constexpr int max_rows(int V) { return V == 1 ? 16 : V == 2 ? 14 : V == 3 ? 9 : 6; }
#elif N_REGISTERS == 32
constexpr int MAX_VECTORS = 4;
constexpr int max_rows(int V) { return V == 1 ? 16 : V == 2 ? 12 : V == 3 ? 8 : 5; }
#else
constexpr int MAX_VECTORS = 3;
constexpr int max_rows(int V) { return V == 1 ? 12 : V == 2 ? 6 : 4; }
#endif

/* `gemm_block` for a number of rows that is known at run time. */
template <class real, int V, int... r>
ALWAYS_INLINE void run_block(ptrdiff_t rows, const Block<real> &x,
                             std::integer_sequence<int, r...>)
{
    static constexpr void (*run[])(const Block<real> &) = {gemm_block<real, r + 1, V>...};
    run[rows - 1](x);
}

/* m rows of V vectors of columns of C, in blocks of nearly equal size. */
template <class real, int V> static void gemm_columns(ptrdiff_t m, Block<real> x)
{
    constexpr ptrdiff_t R = max_rows(V);
    constexpr std::make_integer_sequence<int, max_rows(V)> numbers;
    if (m <= R)
        return run_block<real, V>(m, x, numbers);
    for (ptrdiff_t n_blocks = (m + R - 1) / R; n_blocks > 0; n_blocks--) {
        const ptrdiff_t r = (m + n_blocks - 1) / n_blocks;
        run_block<real, V>(r, x, numbers);
        x.A += r * x.row_stride;
        x.P = x.P ? x.P + r * x.ld_P : x.P;
        x.C += r * x.ld_C;
        m -= r;
    }
}

/* Copy k rows and n columns of B to the panel, with rows `ld` elements apart. The last
   vector of each row is padded with zeros, if it may be loaded whole. */
template <class real>
static void pack(ptrdiff_t k, ptrdiff_t n, const Matrix<real> &B, real *panel, ptrdiff_t ld)
{
    constexpr ptrdiff_t LANES = Simd<real>::LANES;
    if (B.column_stride != 1) {
        transpose(n, k, B.data, B.column_stride, panel, ld);
        const ptrdiff_t padded = (n + LANES - 1) / LANES * LANES;
        for (ptrdiff_t t = 0; !MASKED_LOADS && t < k; t++)
            std::fill(panel + t * ld + n, panel + t * ld + padded, real(0));
        return;
    }
    const ptrdiff_t whole = (n - 1) / LANES * LANES;
    const Mask<real> mask(n - whole);
    for (ptrdiff_t t = 0; t < k; t++, panel += ld) {
        const real *row = B.data + t * B.row_stride;
        for (ptrdiff_t j = 0; j < whole; j += LANES)
            store(panel + j, load(row + j));
        store(panel + whole, load(row + whole, mask));
    }
}

template <class real> static void gemm_over_n(const Product<real> &g)
{
    constexpr ptrdiff_t LANES = Simd<real>::LANES;
    const ptrdiff_t vectors = (g.n + LANES - 1) / LANES;
    const ptrdiff_t panels = (vectors + MAX_VECTORS - 1) / MAX_VECTORS;
    /* A single panel, as in one-row steps, avoids the division. */
    const ptrdiff_t V_min = panels == 1 ? vectors : vectors / panels;
    const ptrdiff_t n_wide = vectors - panels * V_min; /* panels with a vector more */
    const ptrdiff_t ld = (V_min + (n_wide > 0)) * LANES;
    /* Packing reads and writes B once; each block of rows reads it again. */
    const bool packed = g.B.column_stride != 1 || g.m >= 64;
    /* k is processed in slices of this depth. A packed slice of B fits the panel. If A is
       transposed, each block reads a few columns of 128 rows of A^T, which stay in the
       first-level cache for the next blocks. */
    const ptrdiff_t depth = packed ? PANEL_SIZE / ld : g.A.row_stride == 1 ? 128 : g.k;
    Block<real> x;
    x.row_stride = g.A.row_stride;
    x.column_stride = g.A.column_stride;
    x.ld_B = packed ? ld : g.B.row_stride;
    x.scale = real(g.scale);
    x.decay = real(g.decay);
    x.ld_P = g.ld_P;
    x.ld_C = g.ld_C;
    const real *P = g.P;
    ptrdiff_t t = 0;
    do {
        x.k = g.k - t < depth ? g.k - t : depth;
        for (ptrdiff_t p = 0, j = 0; p < panels; p++) {
            const ptrdiff_t V = V_min + (p < n_wide);
            const ptrdiff_t n = g.n - j < V * LANES ? g.n - j : V * LANES;
            const Matrix<real> B = {g.B.data + t * g.B.row_stride + j * g.B.column_stride,
                                    g.B.row_stride, g.B.column_stride};
            if (packed)
                pack(x.k, n, B, g.panel, ld);
            x.A = g.A.data + t * g.A.column_stride;
            x.B = packed ? g.panel : B.data;
            x.P = P ? P + j : nullptr;
            x.C = g.C + j;
            x.last = n - LANES;
            if (V == 1)
                x.mask = Mask<real>(n);
            x.k_whole = x.k;
            if (!MASKED_LOADS && !packed && n < LANES)
                /* A vector past the last column ends in one of the next rows of B. */
                x.k_whole -= x.ld_B >= LANES ? 1 : x.ld_B > 0 ? LANES : x.k;
            if (V == 1)
                gemm_columns<real, 1>(g.m, x);
            else if (V == 2)
                gemm_columns<real, 2>(g.m, x);
            else if (V == 3)
                gemm_columns<real, 3>(g.m, x);
            else
                gemm_columns<real, MAX_VECTORS>(g.m, x);
            j += n;
        }
        /* Further slices are added to C. */
        P = g.C;
        x.ld_P = g.ld_C;
        x.decay = 0;
        t += x.k;
    } while (t < g.k);
}

/* The same for few rows of B, K of them, and at least LANES columns. Each row of C is read
   and written once, in order: a gradient of 784-100-10 with one row takes 15 instead of
   23 us, and with four rows 25 instead of 29 us (AVX2, float). */
template <class real, int K> static void gemm_over_rows(const Product<real> &g)
{
    constexpr ptrdiff_t LANES = Simd<real>::LANES;
    const Product<real> x = g;
    const real scale = real(x.scale), decay = real(x.decay);
    const ptrdiff_t last = x.n - LANES;
    const real *A = x.A.data, *B = x.B.data, *P = x.P;
    real *C = x.C, a[K];
    const auto vector_at = [&](ptrdiff_t j) {
        Vector<real> c = a[0] * load(B + j);
        UNROLL
        for (int t = 1; t < K; t++)
            c += a[t] * load(B + t * x.B.row_stride + j);
        if (P) {
            const Vector<real> p = load(P + j);
            c = (c - decay * p) + p;
        }
        return c;
    };
    for (ptrdiff_t i = 0; i < x.m; i++) {
        UNROLL
        for (int t = 0; t < K; t++)
            a[t] = scale * A[t * x.A.column_stride];
        const Vector<real> end = vector_at(last);
        for (ptrdiff_t j = 0; j < last; j += LANES)
            store(C + j, vector_at(j));
        store(C + last, end);
        A += x.A.row_stride;
        C += x.ld_C;
        P = P ? P + x.ld_P : P;
    }
}

/* C^T = B^T A^T into the panel, a slice of rows of C at a time; then
   C = P - decay P + (C^T)^T */
template <class real> static void gemm_over_m(const Product<real> &g)
{
    const ptrdiff_t slice = PANEL_SIZE / g.n;
    for (ptrdiff_t i = 0; i < g.m; i += slice) {
        const ptrdiff_t m = g.m - i < slice ? g.m - i : slice;
        Matrix<real> A_slice = g.A;
        A_slice.data += i * g.A.row_stride;
        Product<real> g_T = product(g.n, m, g.k, transposed(g.B), transposed(A_slice),
                                    g.panel, static_cast<real *>(nullptr));
        g_T.scale = g.scale;
        gemm_over_n(g_T);
        for (ptrdiff_t j = 0; j < g.n; j++) {
            const real *c = g.panel + j * m;
            const real *P = g.P ? g.P + i * g.ld_P + j : nullptr;
            real *C = g.C + i * g.ld_C + j;
            if (P)
                for (ptrdiff_t r = 0; r < m; r++)
                    C[r * g.ld_C] = (c[r] - real(g.decay) * P[r * g.ld_P]) + P[r * g.ld_P];
            else
                for (ptrdiff_t r = 0; r < m; r++)
                    C[r * g.ld_C] = c[r];
        }
    }
}

/* R rows and Q columns of C. The rows of A are contiguous, and so are the columns of B,
   which begin at B and are `ld_B` apart. */
template <class real, int R, int Q>
ALWAYS_INLINE void dot_block(const Product<real> &g, ptrdiff_t i, ptrdiff_t j,
                             const real *B, ptrdiff_t ld_B)
{
    constexpr ptrdiff_t LANES = Simd<real>::LANES;
    Vector<real> s[R][Q] = {}, a[R], b;
    const real *A = g.A.data + i * g.A.row_stride;
    ptrdiff_t t = 0;
    for (; t + LANES <= g.k; t += LANES) {
        UNROLL
        for (int r = 0; r < R; r++)
            a[r] = load(A + r * g.A.row_stride + t);
        UNROLL
        for (int q = 0; q < Q; q++) {
            b = load(B + q * ld_B + t);
            UNROLL
            for (int r = 0; r < R; r++)
                s[r][q] += a[r] * b;
        }
    }
    if (t < g.k) {
        const Mask<real> mask(g.k - t);
        UNROLL
        for (int r = 0; r < R; r++)
            a[r] = load(A + r * g.A.row_stride + t, mask);
        UNROLL
        for (int q = 0; q < Q; q++) {
            b = load(B + q * ld_B + t, mask);
            UNROLL
            for (int r = 0; r < R; r++)
                s[r][q] += a[r] * b;
        }
    }
    UNROLL
    for (int r = 0; r < R; r++) {
        real c[Q];
        if (Q == 4)
            sums_of_lanes(reinterpret_cast<Vector<real>(&)[4]>(s[r]), c);
        else
            for (int q = 0; q < Q; q++)
                c[q] = sum_of_lanes(s[r][q]);
        const real *P = g.P ? g.P + (i + r) * g.ld_P + j : nullptr;
        real *C = g.C + (i + r) * g.ld_C + j;
        UNROLL
        for (int q = 0; q < Q; q++) {
            c[q] *= real(g.scale);
            C[q] = P ? (c[q] - real(g.decay) * P[q]) + P[q] : c[q];
        }
    }
}

/* R rows of C, four columns at a time. */
template <class real, int R>
ALWAYS_INLINE void dot_rows(const Product<real> &g, ptrdiff_t i, const real *B,
                            ptrdiff_t ld_B)
{
    ptrdiff_t j = 0;
    for (; j + 4 <= g.n; j += 4)
        dot_block<real, R, 4>(g, i, j, B + j * ld_B, ld_B);
    if (j + 2 <= g.n) {
        dot_block<real, R, 2>(g, i, j, B + j * ld_B, ld_B);
        j += 2;
    }
    if (j < g.n)
        dot_block<real, R, 1>(g, i, j, B + j * ld_B, ld_B);
}

template <class real> static void gemm_over_k(const Product<real> &g)
{
    constexpr int R = N_REGISTERS / 8;
    const real *B = g.B.data;
    ptrdiff_t ld_B = g.B.column_stride;
    if (g.B.row_stride != 1) {
        transpose(g.k, g.n, g.B.data, g.B.row_stride, g.panel, g.k);
        B = g.panel;
        ld_B = g.k;
    }
    ptrdiff_t i = 0;
    for (; i + R <= g.m; i += R)
        dot_rows<real, R>(g, i, B, ld_B);
    for (; i < g.m; i++)
        dot_rows<real, 1>(g, i, B, ld_B);
}

/* A kernel and its estimated cost for a product, in vector operations. */
template <class real> struct Kernel {
    void (*run)(const Product<real> &g);
    ptrdiff_t cost;
};

template <class real> static Kernel<real> cheapest_kernel(const Product<real> &g)
{
    constexpr ptrdiff_t LANES = Simd<real>::LANES;
    constexpr ptrdiff_t SUM_OF_LANES = 5; /* its cost */
    const ptrdiff_t transpose_B = 2 * g.k * g.n;
    Kernel<real> kernel = {gemm_over_n<real>, g.m * g.k * ((g.n + LANES - 1) / LANES)};
    if (g.B.column_stride != 1)
        kernel.cost += transpose_B;
    if (g.A.row_stride == 1 && g.n < LANES) {
        ptrdiff_t cost = g.n * g.k * ((g.m + LANES - 1) / LANES);
        cost += 2 * g.m * g.n;
        if (cost < kernel.cost)
            return {gemm_over_m<real>, cost};
    }
    if (g.A.column_stride == 1 && (g.B.row_stride == 1 || g.n * g.k <= PANEL_SIZE)) {
        ptrdiff_t cost = g.m * g.n * ((g.k + LANES - 1) / LANES + SUM_OF_LANES);
        if (g.B.row_stride != 1)
            cost += transpose_B;
        if (cost < kernel.cost)
            return {gemm_over_k<real>, cost};
    }
    return kernel;
}

template <class real> static void gemm(const Product<real> &g)
{
    if (g.m <= 0 || g.n <= 0)
        return;
    if (g.n == 1 && g.m > 1 && g.A.row_stride == 1 && g.ld_C == 1
        && (!g.P || g.ld_P == 1)) { /* C^T is C */
        Product<real> g_T = product(1, g.m, g.k, transposed(g.B), transposed(g.A), g.C,
                                    g.panel);
        g_T.scale = g.scale;
        g_T.decay = g.decay;
        g_T.P = g.P;
        return gemm(g_T);
    }
    if (g.k <= 4 && g.B.column_stride == 1 && g.n > Simd<real>::LANES) {
        if (g.k == 1)
            gemm_over_rows<real, 1>(g);
        else if (g.k == 2)
            gemm_over_rows<real, 2>(g);
        else if (g.k == 3)
            gemm_over_rows<real, 3>(g);
        else
            gemm_over_rows<real, 4>(g);
        return;
    }
    const Kernel<real> whole = cheapest_kernel(g);
    /* The last columns, fewer than a vector, may be cheaper with another kernel: in vectors
       of 16, 100 columns take the time of 112. 784-100-10 takes 1.8 instead of 1.9 ms with
       512 rows (AVX-512, float); estimates for small products take longer than they gain. */
    const ptrdiff_t remainder = g.n % Simd<real>::LANES, multiple = g.n - remainder;
    if (remainder && multiple && g.m >= 16 && g.k >= 16) {
        Product<real> left = g, right = g;
        left.n = multiple;
        right.n = remainder;
        right.B.data += multiple * g.B.column_stride;
        right.P = g.P ? g.P + multiple : nullptr;
        right.C += multiple;
        const Kernel<real> kernel_left = cheapest_kernel(left);
        const Kernel<real> kernel_right = cheapest_kernel(right);
        if (kernel_left.cost + kernel_right.cost < whole.cost) {
            kernel_left.run(left);
            kernel_right.run(right);
            return;
        }
    }
    whole.run(g);
}

} // namespace TARGET_NAME
} // namespace skbgd
END_TARGET();
#endif
