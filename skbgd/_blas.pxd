# cython: language_level=3
"""Row-major matrix product; the only file that knows BLAS is column-major.

scipy.linalg.cython_blas is the public route to SciPy's BLAS. Its integers are 32-bit
(LP64), as in every SciPy wheel.
"""
from cython cimport floating
from scipy.linalg.cython_blas cimport dgemm, sgemm


cdef inline void gemm(
    bint trans_A, bint trans_B, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    floating alpha, const floating *A, Py_ssize_t ld_A, const floating *B,
    floating beta, floating *C,
) noexcept nogil:
    """C := alpha * op(A) . op(B) + beta * C    with op(A) (m, k), op(B) (k, n), C (m, n)

    All three are row-major, the rows of A `ld_A` elements apart, B and C contiguous. Read
    column-major they are their transposes, and C^T = op(B)^T . op(A)^T: the same call
    with A and B, m and n exchanged.
    """
    cdef:
        char ta = b"T" if trans_A else b"N"
        char tb = b"T" if trans_B else b"N"
        int im = <int> m, i_n = <int> n, ik = <int> k
        int lda = <int> ld_A
        int ldb = ik if trans_B else i_n
    if floating is float:
        sgemm(&tb, &ta, &i_n, &im, &ik, &alpha, <float *> B, &ldb, <float *> A, &lda,
              &beta, C, &i_n)
    else:
        dgemm(&tb, &ta, &i_n, &im, &ik, &alpha, <double *> B, &ldb, <double *> A, &lda,
              &beta, C, &i_n)
