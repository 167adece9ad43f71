// Classifies small pictures by a convolutional network (f32): two convolutions with ReLU and pooling, two dense layers,
// softmax. Pictures and weights are made up; what counts is that every machine gives the same probabilities to the last bit.
// usage: neural [PICTURES]
#include "common.h"

enum { SIDE = 28, KERNEL = 5, FIRST = 8, SECOND = 16, HIDDEN = 64, CLASSES = 10 };
enum { SIDE_1 = (SIDE - KERNEL + 1) / 2, SIDE_2 = (SIDE_1 - KERNEL + 1) / 2, FEATURES = SECOND * SIDE_2 * SIDE_2 };

static struct {
    float first[FIRST][1][KERNEL][KERNEL], first_bias[FIRST];
    float second[SECOND][FIRST][KERNEL][KERNEL], second_bias[SECOND];
    float hidden[HIDDEN][FEATURES], hidden_bias[HIDDEN];
    float out[CLASSES][HIDDEN], out_bias[CLASSES];
} net;

static float random_weight(size_t inputs) {
    // Uniform with the variance 1 / inputs would need a square root; a power of two near it does as well.
    float scale = 2;
    for (; inputs > 1; inputs /= 4) scale /= 2;
    return ((float)random_unit() * 2 - 1) * scale;
}

static void make_weights(float *weights, size_t count, size_t inputs) {
    for (size_t i = 0; i < count; i++) weights[i] = random_weight(inputs);
}

// A stroke of random slope and curvature in a noisy field.
static void draw(float picture[SIDE][SIDE]) {
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) picture[y][x] = (float)random_unit() * 0.1f;
    float x = 4 + (float)random_unit() * 20, y = 4 + (float)random_unit() * 20;
    float dx = (float)random_unit() - 0.5f, dy = (float)random_unit() - 0.5f, turn = ((float)random_unit() - 0.5f) * 0.2f;
    for (int step = 0; step < 60; step++) {
        if (x >= 0 && y >= 0 && x < SIDE && y < SIDE) picture[(int)y][(int)x] = 1;
        x += dx, y += dy;
        float turned = dx - turn * dy;
        dy += turn * dx;
        dx = turned;
    }
}

// The largest of each two by two sums after ReLU, for one output channel.
static float *convolve(float *out, const float *in, int channels, int side, const float *kernels, float bias) {
    int size = (side - KERNEL + 1) / 2;
    for (int y = 0; y < size; y++) {
        for (int x = 0; x < size; x++) {
            float best = 0;
            for (int corner = 0; corner < 4; corner++) {
                float sum = bias;
                int top = 2 * y + corner / 2, left = 2 * x + corner % 2;
                const float *kernel = kernels;
                for (int channel = 0; channel < channels; channel++) {
                    const float *row = in + (channel * side + top) * side + left;
                    for (int i = 0; i < KERNEL; i++, row += side, kernel += KERNEL)
                        for (int j = 0; j < KERNEL; j++) sum += row[j] * kernel[j];
                }
                best = sum > best ? sum : best;
            }
            *out++ = best;
        }
    }
    return out;
}

static void dense(float *out, const float *in, const float *weights, const float *bias, int inputs, int outputs) {
    for (int i = 0; i < outputs; i++) {
        out[i] = bias[i];
        for (int j = 0; j < inputs; j++) out[i] += weights[i * inputs + j] * in[j];
    }
}

// e^x for x <= 0, with the same bits everywhere: Taylor's series of x / 2^k, squared k times.
static float exponential(float x) {
    if (x < -80) return 0;
    double y = x, sum = 1, term = 1;
    for (int i = 0; i < 8; i++) y /= 2;
    for (int i = 1; i < 12; i++) sum += term *= y / i;
    for (int i = 0; i < 8; i++) sum *= sum;
    return (float)sum;
}

static void softmax(float *values, int count) {
    float most = values[0], sum = 0;
    for (int i = 1; i < count; i++) most = values[i] > most ? values[i] : most;
    for (int i = 0; i < count; i++) sum += values[i] = exponential(values[i] - most);
    for (int i = 0; i < count; i++) values[i] /= sum;
}

static void classify(float probabilities[CLASSES], float picture[SIDE][SIDE]) {
    static float first[FIRST * SIDE_1 * SIDE_1], second[FEATURES], hidden[HIDDEN];
    float *out = first;
    for (int i = 0; i < FIRST; i++) out = convolve(out, &picture[0][0], 1, SIDE, &net.first[i][0][0][0], net.first_bias[i]);
    out = second;
    for (int i = 0; i < SECOND; i++) out = convolve(out, first, FIRST, SIDE_1, &net.second[i][0][0][0], net.second_bias[i]);
    dense(hidden, second, &net.hidden[0][0], net.hidden_bias, FEATURES, HIDDEN);
    for (int i = 0; i < HIDDEN; i++) hidden[i] = hidden[i] > 0 ? hidden[i] : 0;
    dense(probabilities, hidden, &net.out[0][0], net.out_bias, HIDDEN, CLASSES);
    softmax(probabilities, CLASSES);
}

int main(int argc, char **argv) {
    size_t pictures = size_argument(argc, argv, 20, 1000000);
    make_weights(&net.first[0][0][0][0], sizeof net.first / sizeof(float), KERNEL * KERNEL);
    make_weights(&net.second[0][0][0][0], sizeof net.second / sizeof(float), FIRST * KERNEL * KERNEL);
    make_weights(&net.hidden[0][0], sizeof net.hidden / sizeof(float), FEATURES);
    make_weights(&net.out[0][0], sizeof net.out / sizeof(float), HIDDEN);
    for (int i = 0; i < FIRST; i++) net.first_bias[i] = random_weight(64);
    for (int i = 0; i < SECOND; i++) net.second_bias[i] = random_weight(64);
    size_t votes[CLASSES] = {0};
    double certainty = 0;
    for (size_t i = 0; i < pictures; i++) {
        float picture[SIDE][SIDE], probabilities[CLASSES];
        draw(picture);
        classify(probabilities, picture);
        int best = 0;
        for (int c = 1; c < CLASSES; c++) best = probabilities[c] > probabilities[best] ? c : best;
        votes[best]++;
        certainty += probabilities[best];
        absorb(probabilities, sizeof probabilities);
    }
    printf("%zu pictures, mean certainty %.6f, votes:", pictures, certainty / (double)pictures);
    for (int c = 0; c < CLASSES; c++) printf(" %zu", votes[c]);
    printf("\n");
    return print_digest();
}
