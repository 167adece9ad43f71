// Filters a picture: Gaussian blur, median against noise, Sobel's edges, equalised brightness, half the size. Integers only.
// usage: image [WIDTH]
#include "common.h"

struct image {
    int width, height;
    uint8_t *pixels; // one byte each, row by row
};

static struct image blank(int width, int height) {
    return (struct image){width, height, allocate((size_t)width * (size_t)height, 1)};
}

static int clamp(int x, int least, int most) {
    return x < least ? least : x > most ? most : x;
}

// Pixels beyond the border are those at the border.
static int pixel(const struct image *image, int x, int y) {
    return image->pixels[clamp(y, 0, image->height - 1) * image->width + clamp(x, 0, image->width - 1)];
}

// Rings, a bright square, a slope, and noise.
static struct image draw(int width, int height) {
    struct image image = blank(width, height);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            int dx = x - width / 2, dy = y - height / 2;
            int value = 96 * x / width + ((dx * dx + dy * dy) >> 6 & 64);
            if (x > width / 8 && x < width / 3 && y > height / 8 && y < height / 3) value += 90;
            uint32_t noise = random_below(64);
            value = noise == 0 ? 255 : noise == 1 ? 0 : value + (int)(noise & 7);
            image.pixels[y * width + x] = (uint8_t)clamp(value, 0, 255);
        }
    }
    return image;
}

// The binomial weights 1 4 6 4 1, along rows and then along columns.
static struct image blur(const struct image *image) {
    static const int weights[5] = {1, 4, 6, 4, 1};
    struct image rows = blank(image->width, image->height), both = blank(image->width, image->height);
    for (int pass = 0; pass < 2; pass++) {
        const struct image *from = pass == 0 ? image : &rows;
        struct image *to = pass == 0 ? &rows : &both;
        for (int y = 0; y < image->height; y++) {
            for (int x = 0; x < image->width; x++) {
                int sum = 8;
                for (int i = -2; i <= 2; i++) sum += weights[i + 2] * (pass == 0 ? pixel(from, x + i, y) : pixel(from, x, y + i));
                to->pixels[y * image->width + x] = (uint8_t)(sum / 16);
            }
        }
    }
    free(rows.pixels);
    return both;
}

// The middle one of nine, by a network of exchanges (Smith, "Implementing median filters in XC4000E FPGAs").
static struct image median(const struct image *image) {
    static const uint8_t exchanges[19][2] = {{1, 2}, {4, 5}, {7, 8}, {0, 1}, {3, 4}, {6, 7}, {1, 2}, {4, 5}, {7, 8}, {0, 3},
                                             {5, 8}, {4, 7}, {3, 6}, {1, 4}, {2, 5}, {4, 7}, {4, 2}, {6, 4}, {4, 2}};
    struct image out = blank(image->width, image->height);
    for (int y = 0; y < image->height; y++) {
        for (int x = 0; x < image->width; x++) {
            int nine[9];
            for (int i = 0; i < 9; i++) nine[i] = pixel(image, x + i % 3 - 1, y + i / 3 - 1);
            for (int i = 0; i < 19; i++) {
                int *a = &nine[exchanges[i][0]], *b = &nine[exchanges[i][1]];
                int low = *a < *b ? *a : *b, high = *a < *b ? *b : *a;
                *a = low;
                *b = high;
            }
            out.pixels[y * image->width + x] = (uint8_t)nine[4];
        }
    }
    return out;
}

static struct image edges(const struct image *image) {
    struct image out = blank(image->width, image->height);
    for (int y = 0; y < image->height; y++) {
        for (int x = 0; x < image->width; x++) {
            int across = 0, down = 0;
            for (int i = -1; i <= 1; i++) {
                int weight = i == 0 ? 2 : 1;
                across += weight * (pixel(image, x + 1, y + i) - pixel(image, x - 1, y + i));
                down += weight * (pixel(image, x + i, y + 1) - pixel(image, x + i, y - 1));
            }
            int strength = (across < 0 ? -across : across) + (down < 0 ? -down : down);
            out.pixels[y * image->width + x] = (uint8_t)clamp(strength / 2, 0, 255);
        }
    }
    return out;
}

static struct image equalise(const struct image *image) {
    size_t histogram[256] = {0}, sum = 0, count = (size_t)image->width * (size_t)image->height;
    uint8_t brightness[256];
    for (size_t i = 0; i < count; i++) histogram[image->pixels[i]]++;
    for (int i = 0; i < 256; i++) {
        sum += histogram[i];
        brightness[i] = (uint8_t)(sum * 255 / count);
    }
    struct image out = blank(image->width, image->height);
    for (size_t i = 0; i < count; i++) out.pixels[i] = brightness[image->pixels[i]];
    return out;
}

static struct image halve(const struct image *image) {
    struct image out = blank((image->width + 1) / 2, (image->height + 1) / 2);
    for (int y = 0; y < out.height; y++) {
        for (int x = 0; x < out.width; x++) {
            int sum = 2;
            for (int i = 0; i < 4; i++) sum += pixel(image, 2 * x + i % 2, 2 * y + i / 2);
            out.pixels[y * out.width + x] = (uint8_t)(sum / 4);
        }
    }
    return out;
}

static void report(const char *name, const struct image *image) {
    size_t count = (size_t)image->width * (size_t)image->height, sum = 0, bright = 0;
    for (size_t i = 0; i < count; i++) {
        sum += image->pixels[i];
        bright += image->pixels[i] >= 128;
    }
    printf("%-9s %4d x %-4d mean %3zu, bright %zu %%\n", name, image->width, image->height, sum / count, 100 * bright / count);
    absorb(image->pixels, count);
}

int main(int argc, char **argv) {
    int width = (int)size_argument(argc, argv, 320, 8192), height = (width * 3 + 3) / 4;
    struct image image = draw(width, height);
    report("drawn", &image);
    struct {
        const char *name;
        struct image (*filter)(const struct image *);
    } steps[] = {{"median", median}, {"blurred", blur}, {"equalised", equalise}, {"edges", edges}, {"halved", halve}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct image next = steps[i].filter(&image);
        free(image.pixels);
        image = next;
        report(steps[i].name, &image);
    }
    return print_digest();
}
