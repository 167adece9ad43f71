// Sorts numbers in five ways, which must agree: quicksort, heap sort, radix sort, merge sort, and the C library's qsort.
// usage: sort [NUMBERS]
#include "common.h"

static void swap(uint32_t *a, uint32_t *b) {
    uint32_t c = *a;
    *a = *b;
    *b = c;
}

static void insertion_sort(uint32_t *a, size_t n) {
    for (size_t i = 1; i < n; i++) {
        uint32_t x = a[i];
        size_t j = i;
        for (; j > 0 && a[j - 1] > x; j--) a[j] = a[j - 1];
        a[j] = x;
    }
}

// Hoare's partition around the median of three; the smaller part by recursion, so that depth stays logarithmic.
static void quick_sort(uint32_t *a, size_t n) {
    while (n > 16) {
        uint32_t *mid = a + n / 2, *last = a + n - 1;
        if (*mid < *a) swap(mid, a);
        if (*last < *a) swap(last, a);
        if (*last < *mid) swap(last, mid);
        uint32_t pivot = *mid;
        size_t i = 0, j = n - 1;
        for (;; i++, j--) {
            while (a[i] < pivot) i++;
            while (a[j] > pivot) j--;
            if (i >= j) break;
            swap(a + i, a + j);
        }
        size_t low = j + 1;
        if (low < n - low) {
            quick_sort(a, low);
            a += low;
            n -= low;
        } else {
            quick_sort(a + low, n - low);
            n = low;
        }
    }
    insertion_sort(a, n);
}

static void sift(uint32_t *a, size_t at, size_t n) {
    uint32_t x = a[at];
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        child += child + 1 < n && a[child + 1] > a[child];
        if (a[child] <= x) break;
        a[at] = a[child];
    }
    a[at] = x;
}

static void heap_sort(uint32_t *a, size_t n) {
    for (size_t i = n / 2; i-- > 0;) sift(a, i, n);
    while (n > 1) {
        swap(a, a + --n);
        sift(a, 0, n);
    }
}

static void radix_sort(uint32_t *a, uint32_t *other, size_t n) {
    for (int shift = 0; shift < 32; shift += 8) {
        size_t begin[257] = {0};
        for (size_t i = 0; i < n; i++) begin[(a[i] >> shift & 255) + 1]++;
        for (int i = 0; i < 256; i++) begin[i + 1] += begin[i];
        for (size_t i = 0; i < n; i++) other[begin[a[i] >> shift & 255]++] = a[i];
        uint32_t *c = a;
        a = other;
        other = c;
    }
}

struct record {
    uint32_t key;
    uint32_t place; // where it was before: equal keys must stay in this order
    double weight;
};

static void merge_sort(struct record *a, struct record *other, size_t n) {
    if (n < 2) return;
    size_t half = n / 2;
    merge_sort(a, other, half);
    merge_sort(a + half, other, n - half);
    memcpy(other, a, half * sizeof *a);
    for (size_t i = 0, j = half, to = 0; i < half;) {
        if (j < n && a[j].key < other[i].key) a[to++] = a[j++];
        else a[to++] = other[i++];
    }
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    size_t n = size_argument(argc, argv, 100000, 1 << 25);
    uint32_t *numbers = allocate(n, sizeof *numbers);
    uint32_t *sorted = allocate(n, sizeof *sorted), *other = allocate(n, sizeof *other);
    struct record *records = allocate(n, sizeof *records), *spare = allocate(n, sizeof *spare);
    for (size_t i = 0; i < n; i++) {
        // Some numbers occur often, so that equal ones are ordinary.
        numbers[i] = (uint32_t)random_u64() >> (random_below(4) == 0 ? 20 : 0);
        records[i] = (struct record){numbers[i], (uint32_t)i, random_unit()};
    }
    memcpy(sorted, numbers, n * sizeof *numbers);
    radix_sort(sorted, other, n);

    static const char *const names[] = {"quicksort", "heap sort", "qsort"};
    for (int way = 0; way < 3; way++) {
        memcpy(other, numbers, n * sizeof *numbers);
        if (way == 0) quick_sort(other, n);
        else if (way == 1) heap_sort(other, n);
        else qsort(other, n, sizeof *other, compare);
        if (memcmp(other, sorted, n * sizeof *numbers) != 0) die("%s and radix sort disagree", names[way]);
    }
    merge_sort(records, spare, n);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        if (records[i].key != sorted[i]) die("merge sort and radix sort disagree at %zu", i);
        if (i > 0 && records[i].key == records[i - 1].key && records[i].place < records[i - 1].place)
            die("merge sort is not stable at %zu", i);
        sum += records[i].weight * (double)(i + 1);
        absorb_u64((uint64_t)records[i].key << 32 | records[i].place);
    }
    absorb_f64(sum);
    printf("%zu numbers, least %" PRIu32 ", median %" PRIu32 ", greatest %" PRIu32 "\n", n, sorted[0], sorted[n / 2],
           sorted[n - 1]);
    return print_digest();
}
