// Hashes with SHA-256 (FIPS 180-4) and BLAKE2b (RFC 7693), and checks both against published values.
// usage: hash [KILOBYTES]
#include "common.h"

// --- SHA-256

static const uint32_t sha_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate32(uint32_t x, int by) {
    return x >> by | x << (32 - by);
}

static void sha_block(uint32_t state[8], const uint8_t block[64]) {
    uint32_t w[64];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (rotate32(a, 7) ^ rotate32(a, 18) ^ a >> 3) + (rotate32(b, 17) ^ rotate32(b, 19) ^ b >> 10);
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; i++) {
        uint32_t t = h + (rotate32(e, 6) ^ rotate32(e, 11) ^ rotate32(e, 25)) + (g ^ (e & (f ^ g))) + sha_k[i] + w[i];
        uint32_t u = (rotate32(a, 2) ^ rotate32(a, 13) ^ rotate32(a, 22)) + ((a & b) | (c & (a | b)));
        h = g, g = f, f = e, e = d + t, d = c, c = b, b = a, a = t + u;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

static void sha256(uint8_t out[32], const uint8_t *data, size_t len) {
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    size_t at = 0;
    for (; len - at >= 64; at += 64) sha_block(state, data + at);
    uint8_t last[128] = {0};
    memcpy(last, data + at, len - at);
    last[len - at] = 0x80;
    size_t end = len - at < 56 ? 64 : 128;
    for (int i = 0; i < 8; i++) last[end - 1 - (size_t)i] = (uint8_t)((uint64_t)len * 8 >> 8 * i);
    for (size_t block = 0; block < end; block += 64) sha_block(state, last + block);
    for (int i = 0; i < 32; i++) out[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}

// --- BLAKE2b

static const uint64_t blake_iv[8] = {
    0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
    0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};

static const uint8_t blake_order[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
};

static uint64_t rotate64(uint64_t x, int by) {
    return x >> by | x << (64 - by);
}

static void blake_mix(uint64_t v[16], int a, int b, int c, int d, uint64_t x, uint64_t y) {
    v[a] += v[b] + x;
    v[d] = rotate64(v[d] ^ v[a], 32);
    v[c] += v[d];
    v[b] = rotate64(v[b] ^ v[c], 24);
    v[a] += v[b] + y;
    v[d] = rotate64(v[d] ^ v[a], 16);
    v[c] += v[d];
    v[b] = rotate64(v[b] ^ v[c], 63);
}

static void blake_block(uint64_t state[8], const uint8_t block[128], uint64_t counted, bool last) {
    uint64_t v[16], m[16];
    memcpy(v, state, 64);
    memcpy(v + 8, blake_iv, 64);
    v[12] ^= counted;
    if (last) v[14] = ~v[14];
    for (int i = 0; i < 16; i++) {
        m[i] = 0;
        for (int byte = 0; byte < 8; byte++) m[i] |= (uint64_t)block[8 * i + byte] << 8 * byte;
    }
    for (int round = 0; round < 12; round++) {
        const uint8_t *order = blake_order[round % 10];
        blake_mix(v, 0, 4, 8, 12, m[order[0]], m[order[1]]);
        blake_mix(v, 1, 5, 9, 13, m[order[2]], m[order[3]]);
        blake_mix(v, 2, 6, 10, 14, m[order[4]], m[order[5]]);
        blake_mix(v, 3, 7, 11, 15, m[order[6]], m[order[7]]);
        blake_mix(v, 0, 5, 10, 15, m[order[8]], m[order[9]]);
        blake_mix(v, 1, 6, 11, 12, m[order[10]], m[order[11]]);
        blake_mix(v, 2, 7, 8, 13, m[order[12]], m[order[13]]);
        blake_mix(v, 3, 4, 9, 14, m[order[14]], m[order[15]]);
    }
    for (int i = 0; i < 8; i++) state[i] ^= v[i] ^ v[i + 8];
}

// 64 bytes, without a key.
static void blake2b(uint8_t out[64], const uint8_t *data, size_t len) {
    uint64_t state[8];
    memcpy(state, blake_iv, 64);
    state[0] ^= 0x01010000 ^ 64;
    size_t at = 0;
    for (; len - at > 128; at += 128) blake_block(state, data + at, at + 128, false);
    uint8_t last[128] = {0};
    memcpy(last, data + at, len - at);
    blake_block(state, last, len, true);
    for (int i = 0; i < 64; i++) out[i] = (uint8_t)(state[i / 8] >> 8 * (i % 8));
}

static void print(const char *name, const uint8_t *hash, size_t len, const char *expected) {
    char hex[129];
    for (size_t i = 0; i < len; i++) snprintf(hex + 2 * i, 3, "%02x", hash[i]);
    printf("%s %s\n", name, hex);
    if (expected && strcmp(hex, expected) != 0) die("%s should be %s", name, expected);
    absorb(hash, len);
}

int main(int argc, char **argv) {
    size_t len = 1024 * size_argument(argc, argv, 256, 1 << 20);
    uint8_t hash[64];
    sha256(hash, (const uint8_t *)"abc", 3);
    print("SHA-256 of abc ", hash, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    blake2b(hash, (const uint8_t *)"abc", 3);
    print("BLAKE2b of abc ", hash, 64,
          "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
          "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923");
    uint8_t *data = allocate(len, 1);
    for (size_t i = 0; i < len; i++) data[i] = (uint8_t)random_u64();
    sha256(hash, data, len);
    print("SHA-256 of data", hash, 32, NULL);
    blake2b(hash, data, len);
    print("BLAKE2b of data", hash, 64, NULL);
    return print_digest();
}
