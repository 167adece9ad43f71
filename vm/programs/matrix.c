// Multiplies square matrices and solves a system of linear equations by LU decomposition with partial pivoting (f64).
// usage: matrix [N]
#include "common.h"

// c = a b. Row by row of b, so that memory is read in order.
static void multiply(double *restrict c, const double *restrict a, const double *restrict b, size_t n) {
    memset(c, 0, n * n * sizeof *c);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n; k++) {
            double factor = a[i * n + k];
            for (size_t j = 0; j < n; j++) c[i * n + j] += factor * b[k * n + j];
        }
    }
}

static void swap_rows(double *a, size_t n, size_t i, size_t j) {
    for (size_t k = 0; k < n; k++) {
        double x = a[i * n + k];
        a[i * n + k] = a[j * n + k];
        a[j * n + k] = x;
    }
}

static double magnitude(double x) {
    return x < 0 ? -x : x;
}

// Replaces a by its factors and solves a x = b in place of b. The determinant's sign is the result.
static int solve(double *a, double *b, size_t n) {
    int sign = 1;
    for (size_t k = 0; k < n; k++) {
        size_t pivot = k;
        for (size_t i = k + 1; i < n; i++)
            if (magnitude(a[i * n + k]) > magnitude(a[pivot * n + k])) pivot = i;
        if (a[pivot * n + k] == 0) die("the matrix is singular");
        if (pivot != k) {
            swap_rows(a, n, k, pivot);
            double x = b[k];
            b[k] = b[pivot];
            b[pivot] = x;
            sign = -sign;
        }
        if (a[k * n + k] < 0) sign = -sign;
        for (size_t i = k + 1; i < n; i++) {
            double factor = a[i * n + k] /= a[k * n + k];
            for (size_t j = k + 1; j < n; j++) a[i * n + j] -= factor * a[k * n + j];
            b[i] -= factor * b[k];
        }
    }
    for (size_t i = n; i-- > 0;) {
        for (size_t j = i + 1; j < n; j++) b[i] -= a[i * n + j] * b[j];
        b[i] /= a[i * n + i];
    }
    return sign;
}

int main(int argc, char **argv) {
    size_t n = size_argument(argc, argv, 120, 4096);
    double *a = allocate(n * n, sizeof *a), *b = allocate(n * n, sizeof *b), *c = allocate(n * n, sizeof *c);
    double *x = allocate(n, sizeof *x), *right = allocate(n, sizeof *right);
    for (size_t i = 0; i < n * n; i++) {
        a[i] = random_unit() - 0.5;
        b[i] = random_unit() - 0.5;
    }
    multiply(c, a, b, n);
    double trace = 0;
    for (size_t i = 0; i < n; i++) trace += c[i * n + i];

    // The right side of a known solution, then back.
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) right[i] += c[i * n + j] * (double)(j + 1);
    for (size_t i = 0; i < n * n; i++) absorb_f64(c[i]);
    memcpy(x, right, n * sizeof *x);
    int sign = solve(c, x, n);
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double error = magnitude(x[i] - (double)(i + 1));
        if (error > worst) worst = error;
        absorb_f64(x[i]);
    }
    if (!(worst < 1e-3 * (double)n)) die("the solution is off by %g", worst);
    printf("%zu x %zu: trace %.9f, sign of the determinant %d, error %.3e\n", n, n, trace, sign, worst);
    return print_digest();
}
