/* Matrix products of any shape: C = P - decay P + scale A B, see `Product`.
 *
 * Three ways to compute one, chosen by an estimate of their cost:
 *   direct  blocks of rows times vectors of columns, summed up in registers; panels of B
 *           are packed into the first-level cache where that is worth its while
 *   transposed  C^T = B^T A^T, for few columns of C
 *   dots    sums over vectors along k, for few columns or few rows
 * The last vector of a row is loaded and stored in part: no width has a slow path of its
 * own. Each element of C is one sum over k in an order that only the shape determines.
 */

/* What `block` needs beside its numbers of rows and vectors. */
template <class real> struct Block {
    ptrdiff_t k, k_whole; /* rows of B; those whose last vector is loaded in one instruction */
    const real *A;
    ptrdiff_t row, column; /* strides of A */
    const real *B;
    ptrdiff_t ld_B;
    real scale, decay;
    const real *P;
    ptrdiff_t ld_P;
    real *C;
    ptrdiff_t ld_C;
    Mask<real> mask; /* of the last vector of columns */
};

/* S = S + A_t B_t for R rows and V vectors. The rows from the eighth on are given apart:
   with one address for all, there are more offsets than registers. `whole`: lanes of the
   last vector past the columns may be loaded, and are not stored later. */
template <bool whole, int R, int V, class real>
ALWAYS_INLINE void add_products(Vector<real> (&s)[R][V], const Block<real> &x,
                                const real *A, const real *A_8, const real *B)
{
    const real *halves[] = {A, A_8};
    Vector<real> b[V];
    UNROLL
    for (int v = 0; v < V - 1; v++)
        b[v] = load(B + v * Simd<real>::LANES);
    b[V - 1] = whole ? load(B + (V - 1) * Simd<real>::LANES)
                     : load(B + (V - 1) * Simd<real>::LANES, x.mask);
    UNROLL
    for (int r = 0; r < R; r++) {
        real a = halves[r / 8][r % 8 * x.row];
        UNROLL
        for (int v = 0; v < V; v++)
            s[r][v] += a * b[v];
    }
}

/* R rows and V vectors of columns of C. A sum in one register would wait for its last
   addition: where there are few sums, each is split into U. */
template <class real, int R, int V> static void block(const Block<real> &given)
{
    enum { LANES = Simd<real>::LANES, U = R * V >= 8 ? 1 : R * V >= 4 ? 2 : 4 };
    const Block<real> x = given;
    Vector<real> s[U][R][V] = {};
    const real *A = x.A, *A_8 = R > 8 ? A + 8 * x.row : A, *B = x.B;
    ptrdiff_t t = 0;
    OPTIMIZATION_BARRIER(A_8);
    for (; t + U <= x.k_whole; t += U) {
        UNROLL
        for (int u = 0; u < U; u++)
            add_products<!MASKED_LOADS>(s[u], x, A + u * x.column, A_8 + u * x.column,
                                        B + u * x.ld_B);
        A += U * x.column;
        A_8 += U * x.column;
        B += U * x.ld_B;
    }
    for (; (U > 1 || !MASKED_LOADS) && t < x.k; t++) {
        add_products<false>(s[0], x, A, A_8, B);
        A += x.column;
        A_8 += x.column;
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
                                           : load(P + v * LANES, x.mask);
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
        store(C + (V - 1) * LANES, s[0][r][V - 1], x.mask);
    }
}

/* `block` for a number of rows that is not known before. */
template <class real, int R, int V> struct BlockDispatch {
    ALWAYS_INLINE void run(ptrdiff_t rows, const Block<real> &x)
    {
        if (rows == R)
            block<real, R, V>(x);
        else
            BlockDispatch<real, R - 1, V>::run(rows, x);
    }
};
template <class real, int V> struct BlockDispatch<real, 0, V> {
    ALWAYS_INLINE void run(ptrdiff_t, const Block<real> &) {}
};

/* The sums of a block fill the registers, beside V vectors of B and numbers of A. AVX-512
   reads a number of A from memory while it multiplies by it; others first load it. */
#if VECTOR_BYTES == 64
enum { MAX_VECTORS = 4 };
constexpr int max_rows(int V) { return V == 1 ? 16 : V == 2 ? 14 : V == 3 ? 9 : 6; }
#elif N_REGISTERS == 32
enum { MAX_VECTORS = 4 };
constexpr int max_rows(int V) { return V == 1 ? 16 : V == 2 ? 12 : V == 3 ? 8 : 5; }
#else
enum { MAX_VECTORS = 3 };
constexpr int max_rows(int V) { return V == 1 ? 12 : V == 2 ? 6 : 4; }
#endif

/* V vectors of columns of C, all m rows: in blocks of as equal a size as can be. */
template <class real, int V> static void columns(ptrdiff_t m, Block<real> x)
{
    enum { R = max_rows(V) };
    if (m <= R) {
        BlockDispatch<real, R, V>::run(m, x);
        return;
    }
    ptrdiff_t n_blocks = (m + R - 1) / R;
    ptrdiff_t rows = m / n_blocks, larger = m % n_blocks;
    for (ptrdiff_t b = 0; b < n_blocks; b++) {
        ptrdiff_t r = rows + (b < larger);
        BlockDispatch<real, R, V>::run(r, x);
        x.A += r * x.row;
        x.P = x.P ? x.P + r * x.ld_P : x.P;
        x.C += r * x.ld_C;
    }
}

/* k rows of n columns of B, `ld` apart in the panel; the last vector of a row is whole. */
template <class real>
static void pack(ptrdiff_t k, ptrdiff_t n, const Matrix<real> &B, real *panel, ptrdiff_t ld)
{
    enum { LANES = Simd<real>::LANES };
    if (B.column_stride != 1) {
        transpose(n, k, B.data, B.column_stride, panel, ld);
        for (ptrdiff_t t = 0; !MASKED_LOADS && t < k; t++)
            std::fill(panel + t * ld + n, panel + t * ld + (n + LANES - 1) / LANES * LANES, (real)0);
        return;
    }
    ptrdiff_t whole = (n - 1) / LANES * LANES;
    Mask<real> mask(n - whole);
    for (ptrdiff_t t = 0; t < k; t++, panel += ld) {
        const real *row = B.data + t * B.row_stride;
        for (ptrdiff_t j = 0; j < whole; j += LANES)
            store(panel + j, load(row + j));
        store(panel + whole, load(row + whole, mask));
    }
}

template <class real> static void gemm_over_n(const Product<real> &g)
{
    enum { LANES = Simd<real>::LANES };
    const ptrdiff_t vectors = (g.n + LANES - 1) / LANES;
    const ptrdiff_t panels = (vectors + MAX_VECTORS - 1) / MAX_VECTORS;
    /* In one panel, as for a single row, no time is spent on divisions. */
    const ptrdiff_t ld = (panels == 1 ? vectors : (vectors + panels - 1) / panels) * LANES;
    /* Packing reads and writes B once; each block reads it again. */
    const bool packed = g.B.column_stride != 1 || g.m >= 64;
    /* Beside the panel, the rows of A^T that are read in part stay in that cache too. */
    const ptrdiff_t depth = packed ? PANEL_SIZE / ld : g.A.row_stride == 1 ? 128 : g.k;
    Block<real> x = {0, 0, NULL, g.A.row_stride, g.A.column_stride, NULL, packed ? ld : g.B.row_stride,
                     (real)g.scale, (real)g.decay, NULL, g.ld_P, NULL, g.ld_C, Mask<real>(0)};
    const real *P = g.P;
    ptrdiff_t t = 0;
    do {
        x.k = g.k - t < depth ? g.k - t : depth;
        for (ptrdiff_t p = 0, j = 0; p < panels; p++) {
            const ptrdiff_t V = panels == 1
                                    ? vectors
                                    : vectors * (p + 1) / panels - vectors * p / panels;
            const ptrdiff_t n = g.n - j < V * LANES ? g.n - j : V * LANES;
            const Matrix<real> B = {g.B.data + t * g.B.row_stride + j * g.B.column_stride, g.B.row_stride,
                                    g.B.column_stride};
            if (packed)
                pack(x.k, n, B, g.panel, ld);
            x.A = g.A.data + t * g.A.column_stride;
            x.B = packed ? g.panel : B.data;
            x.P = P ? P + j : NULL;
            x.C = g.C + j;
            x.mask = Mask<real>(n - (V - 1) * LANES);
            x.k_whole = x.k;
            if (!MASKED_LOADS && !packed && n < V * LANES)
                /* A vector past the last column ends in one of the next rows of B. */
                x.k_whole -= x.ld_B >= LANES ? 1 : x.ld_B > 0 ? (ptrdiff_t)LANES : x.k;
            if (V == 1)
                columns<real, 1>(g.m, x);
            else if (V == 2)
                columns<real, 2>(g.m, x);
            else if (V == 3)
                columns<real, 3>(g.m, x);
            else
                columns<real, MAX_VECTORS>(g.m, x);
            j += n;
        }
        P = g.C;
        x.ld_P = g.ld_C;
        x.decay = 0;
        t += x.k;
    } while (t < g.k);
}

/* C^T = B^T A^T, some columns at a time, then C = P - decay P + (C^T)^T */
template <class real> static void gemm_over_m(const Product<real> &g)
{
    const ptrdiff_t step = PANEL_SIZE / g.n;
    for (ptrdiff_t i = 0; i < g.m; i += step) {
        const ptrdiff_t m = g.m - i < step ? g.m - i : step;
        Product<real> transposed = {g.n, m, g.k, {g.B.data, g.B.column_stride, g.B.row_stride},
                                {g.A.data + i * g.A.row_stride, g.A.column_stride, g.A.row_stride}, g.scale, 0,
                                NULL, 0, g.panel, m, NULL};
        if (g.n == 1 && g.ld_C == 1 && (!g.P || g.ld_P == 1)) { /* C^T is C */
            transposed.decay = g.decay;
            transposed.P = g.P ? g.P + i : NULL;
            transposed.C = g.C + i;
            gemm_over_n(transposed);
            continue;
        }
        gemm_over_n(transposed);
        for (ptrdiff_t j = 0; j < g.n; j++) {
            const real *c = g.panel + j * m, *P = g.P ? g.P + i * g.ld_P + j : NULL;
            real *C = g.C + i * g.ld_C + j;
            if (P)
                for (ptrdiff_t r = 0; r < m; r++)
                    C[r * g.ld_C] = (c[r] - (real)g.decay * P[r * g.ld_P]) + P[r * g.ld_P];
            else
                for (ptrdiff_t r = 0; r < m; r++)
                    C[r * g.ld_C] = c[r];
        }
    }
}

/* Q columns of R rows of C; rows of A and, as `B`, columns of B are contiguous. */
template <class real, int R, int Q>
ALWAYS_INLINE void dot_block(const Product<real> &g, ptrdiff_t i, ptrdiff_t j, const real *B,
                        ptrdiff_t ld_B)
{
    enum { LANES = Simd<real>::LANES };
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
        Mask<real> mask(g.k - t);
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
        UNROLL
        for (int q = 0; q < Q; q++) {
            real c = (real)g.scale * sum_of_lanes<real>(s[r][q]);
            if (g.P) {
                real p = g.P[(i + r) * g.ld_P + j + q];
                c = (c - (real)g.decay * p) + p;
            }
            g.C[(i + r) * g.ld_C + j + q] = c;
        }
    }
}

template <class real> static void gemm_over_k(const Product<real> &g)
{
    enum { R = N_REGISTERS / 8 };
    const real *B = g.B.data;
    ptrdiff_t ld_B = g.B.column_stride;
    if (g.B.row_stride != 1) {
        transpose(g.k, g.n, g.B.data, g.B.row_stride, g.panel, g.k);
        B = g.panel;
        ld_B = g.k;
    }
    ptrdiff_t i = 0;
#define DOTS(rows) \
    do { \
        ptrdiff_t j = 0; \
        for (; j + 4 <= g.n; j += 4) \
            dot_block<real, rows, 4>(g, i, j, B + j * ld_B, ld_B); \
        if (j + 2 <= g.n) { \
            dot_block<real, rows, 2>(g, i, j, B + j * ld_B, ld_B); \
            j += 2; \
        } \
        if (j < g.n) \
            dot_block<real, rows, 1>(g, i, j, B + j * ld_B, ld_B); \
    } while (0)
    for (; i + R <= g.m; i += R)
        DOTS(R);
    for (; i < g.m; i++)
        DOTS(1);
#undef DOTS
}

/* A way to compute a product, and its cost in vector operations. */
template <class real> struct Kernel {
    void (*run)(const Product<real> &g);
    ptrdiff_t cost;
};

template <class real> static Kernel<real> cheapest_kernel(const Product<real> &g)
{
    enum { LANES = Simd<real>::LANES, SUM = 8 };
    const ptrdiff_t to_transpose_B = 2 * g.k * g.n;
    Kernel<real> kernel = {gemm_over_n<real>, g.m * g.k * ((g.n + LANES - 1) / LANES)};
    if (g.B.column_stride != 1)
        kernel.cost += to_transpose_B;
    if (g.A.row_stride == 1 && g.n < LANES) {
        ptrdiff_t cost = g.n * g.k * ((g.m + LANES - 1) / LANES);
        if (g.n > 1 || g.ld_C > 1)
            cost += 2 * g.m * g.n;
        if (cost < kernel.cost || (g.n == 1 && g.ld_C == 1))
            return {gemm_over_m<real>, cost};
    }
    if (g.A.column_stride == 1 && (g.B.row_stride == 1 || g.n * g.k <= PANEL_SIZE)) {
        ptrdiff_t cost = g.m * g.n * ((g.k + LANES - 1) / LANES + SUM);
        if (g.B.row_stride != 1)
            cost += to_transpose_B;
        if (cost < kernel.cost)
            return {gemm_over_k<real>, cost};
    }
    return kernel;
}

template <class real> static void gemm(const Product<real> &g)
{
    if (g.m <= 0 || g.n <= 0)
        return;
    const Kernel<real> whole = cheapest_kernel(g);
    /* The last columns, too few for a vector, may have a cheaper way of their own. */
    const ptrdiff_t few = g.n % Simd<real>::LANES, most = g.n - few;
    if (few && most) {
        Product<real> left = g, right = g;
        left.n = most;
        right.n = few;
        right.B.data += most * g.B.column_stride;
        right.P = g.P ? g.P + most : NULL;
        right.C += most;
        const Kernel<real> kernel_left = cheapest_kernel(left), kernel_right = cheapest_kernel(right);
        if (kernel_left.cost + kernel_right.cost < whole.cost) {
            kernel_left.run(left);
            kernel_right.run(right);
            return;
        }
    }
    whole.run(g);
}
