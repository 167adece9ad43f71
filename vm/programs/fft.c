// The fast Fourier transform (Cooley and Tukey 1965), there and back, and a convolution with it (f64).
// usage: fft [LOG2_OF_POINTS]
#include "common.h"
#include <math.h>

struct complex {
    double re, im;
};

static struct complex times(struct complex a, struct complex b) {
    return (struct complex){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

// roots[k] = exp(2 pi i k / n) for k < n / 2, from square roots alone: halving an angle gives the root of each power of
// two, and every other one is a product of these.
static struct complex *unit_roots(size_t n) {
    struct complex *roots = allocate(n / 2 + 1, sizeof *roots);
    roots[0] = (struct complex){1, 0};
    struct complex root = {-1, 0}; // exp(2 pi i step / n)
    for (size_t step = n / 2; step > 1; step /= 2) {
        double half = sqrt((1 + root.re) / 2);
        root = (struct complex){half, half == 0 ? 1 : root.im / (2 * half)};
        roots[step / 2] = root;
    }
    for (size_t step = n / 4; step > 1; step /= 2)
        for (size_t k = step / 2; k < n / 2; k += step)
            if (k != step / 2) roots[k] = times(roots[k - step / 2], roots[step / 2]);
    return roots;
}

static void transform(struct complex *a, size_t n, const struct complex *roots, bool inverse) {
    for (size_t i = 1, j = 0; i < n; i++) {
        size_t bit = n / 2;
        for (; j & bit; bit /= 2) j ^= bit;
        j ^= bit;
        if (i < j) {
            struct complex x = a[i];
            a[i] = a[j];
            a[j] = x;
        }
    }
    for (size_t len = 2; len <= n; len *= 2) {
        for (size_t begin = 0; begin < n; begin += len) {
            for (size_t k = 0; k < len / 2; k++) {
                struct complex root = roots[k * (n / len)];
                if (inverse) root.im = -root.im;
                struct complex x = a[begin + k], y = times(a[begin + k + len / 2], root);
                a[begin + k] = (struct complex){x.re + y.re, x.im + y.im};
                a[begin + k + len / 2] = (struct complex){x.re - y.re, x.im - y.im};
            }
        }
    }
    for (size_t i = 0; inverse && i < n; i++) {
        a[i].re /= (double)n;
        a[i].im /= (double)n;
    }
}

int main(int argc, char **argv) {
    size_t n = (size_t)1 << size_argument(argc, argv, 14, 22);
    struct complex *roots = unit_roots(n);
    struct complex *signal = allocate(n, sizeof *signal), *spectrum = allocate(n, sizeof *spectrum);
    // Three tones and noise.
    const size_t tones[] = {n / 16 + 1, n / 5, n / 3};
    for (size_t i = 0; i < n; i++) {
        signal[i].re = random_unit() - 0.5;
        for (size_t t = 0; t < 3; t++) {
            size_t angle = i * tones[t] % n;
            double cosine = angle < n / 2 ? roots[angle].re : -roots[angle - n / 2].re;
            signal[i].re += cosine / (double)(t + 1);
        }
    }
    memcpy(spectrum, signal, n * sizeof *signal);
    transform(spectrum, n, roots, false);
    printf("%zu points, loudest tones:", n);
    double below = INFINITY;
    for (int peak = 0; peak < 3; peak++) {
        size_t best = 0;
        double power = -1;
        for (size_t i = 1; i < n / 2; i++) {
            double here = spectrum[i].re * spectrum[i].re + spectrum[i].im * spectrum[i].im;
            if (here < below && here > power) power = here, best = i;
        }
        below = power;
        printf(" %zu", best);
    }
    for (size_t i = 0; i < n; i++) {
        absorb_f64(spectrum[i].re);
        absorb_f64(spectrum[i].im);
    }

    // Smoothing over 8 neighbours: a product of spectra, against the sum itself.
    struct complex *kernel = allocate(n, sizeof *kernel);
    for (size_t i = 0; i < 8 && i < n; i++) kernel[i].re = 0.125;
    transform(kernel, n, roots, false);
    for (size_t i = 0; i < n; i++) spectrum[i] = times(spectrum[i], kernel[i]);
    transform(spectrum, n, roots, true);
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t k = 0; k < 8 && k < n; k++) sum += 0.125 * signal[(i + n - k) % n].re;
        double error = sum - spectrum[i].re;
        if (error < 0) error = -error;
        if (error > worst) worst = error;
        absorb_f64(spectrum[i].re);
    }
    printf(", error of a convolution %.3e\n", worst);
    if (!(worst < 1e-10)) die("the convolution is wrong");
    return print_digest();
}
