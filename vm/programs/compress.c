// Compresses a text and restores it: LZ77 (Ziv and Lempel 1977) with chains of equal hashes, then canonical Huffman codes.
//
// A block: 2 x 40 code lengths of 4 bits after 256 more, then its tokens, then the end symbol. A literal is its byte's
// code. A match is a code for the power of two below its length, the rest of the length, the same for its distance.
// usage: compress [KILOBYTES | -]
#include "text.h"

enum {
    WINDOW = 1 << 15,
    MIN_MATCH = 4,
    MAX_MATCH = 258,
    MAX_CHAIN = 32,
    BLOCK_TOKENS = 1 << 14,
    MAX_BITS = 15,
    BUCKETS = 40,
    END_SYMBOL = 256,
    FIRST_LENGTH = 257,
    SYMBOLS = 256 + BUCKETS,
};

// --- bits, lowest first

struct bits {
    uint8_t *bytes;
    size_t len, room;
    uint64_t pending;
    unsigned count;
};

static void put(struct bits *out, uint32_t value, unsigned count) {
    out->pending |= (uint64_t)value << out->count;
    for (out->count += count; out->count >= 8; out->count -= 8, out->pending >>= 8) {
        if (out->len == out->room) {
            out->room = out->room ? 2 * out->room : 4096;
            out->bytes = realloc(out->bytes, out->room);
            if (!out->bytes) die("no memory for %zu compressed bytes", out->room);
        }
        out->bytes[out->len++] = (uint8_t)out->pending;
    }
}

static uint32_t peek(struct bits *in, unsigned count) {
    while (in->count < count) {
        in->pending |= (uint64_t)(in->len < in->room ? in->bytes[in->len] : 0) << in->count;
        in->len++;
        in->count += 8;
    }
    return (uint32_t)(in->pending & ((1u << count) - 1));
}

static uint32_t take(struct bits *in, unsigned count) {
    uint32_t value = peek(in, count);
    in->pending >>= count;
    in->count -= count;
    return value;
}

// --- Huffman codes

struct code {
    uint8_t lengths[SYMBOLS];
    uint16_t words[SYMBOLS]; // bits reversed, as they are written
    int symbols;
};

// The lengths of an optimal code, by merging the two rarest nodes until one is left. False if a length is above MAX_BITS.
static bool code_lengths(struct code *code, const uint32_t *counts) {
    static uint32_t weight[2 * SYMBOLS];
    static int parent[2 * SYMBOLS];
    int nodes = code->symbols, left = 0;
    bool merged[2 * SYMBOLS] = {false};
    for (int i = 0; i < code->symbols; i++) {
        weight[i] = counts[i];
        merged[i] = counts[i] == 0;
        left += counts[i] != 0;
    }
    memset(code->lengths, 0, sizeof code->lengths);
    for (; left > 1; left--) {
        int least[2] = {-1, -1};
        for (int i = 0; i < nodes; i++) {
            if (merged[i]) continue;
            if (least[0] < 0 || weight[i] < weight[least[0]]) {
                least[1] = least[0];
                least[0] = i;
            } else if (least[1] < 0 || weight[i] < weight[least[1]]) {
                least[1] = i;
            }
        }
        weight[nodes] = weight[least[0]] + weight[least[1]];
        merged[least[0]] = merged[least[1]] = true;
        parent[least[0]] = parent[least[1]] = nodes++;
    }
    for (int i = 0; i < code->symbols; i++) {
        if (counts[i] == 0) continue;
        int length = 0;
        for (int node = i; node != nodes - 1; node = parent[node]) length++;
        if (length > MAX_BITS) return false;
        code->lengths[i] = (uint8_t)(length ? length : 1);
    }
    return true;
}

static void code_words(struct code *code) {
    uint32_t word = 0;
    for (int length = 1; length <= MAX_BITS; length++, word <<= 1) {
        for (int i = 0; i < code->symbols; i++) {
            if (code->lengths[i] != length) continue;
            uint32_t reversed = 0;
            for (int bit = 0; bit < length; bit++) reversed |= (word >> bit & 1) << (length - 1 - bit);
            code->words[i] = (uint16_t)reversed;
            word++;
        }
    }
}

static void make_code(struct code *code, uint32_t *counts, int symbols) {
    code->symbols = symbols;
    while (!code_lengths(code, counts))
        for (int i = 0; i < symbols; i++) counts[i] = counts[i] ? counts[i] / 2 + 1 : 0;
    code_words(code);
}

// For every MAX_BITS next bits: the symbol and the length of its word.
struct decoder {
    uint16_t symbol[1 << MAX_BITS];
    uint8_t length[1 << MAX_BITS];
};

static void make_decoder(struct decoder *decoder, struct code *code) {
    code_words(code);
    memset(decoder->length, 0, sizeof decoder->length);
    for (int i = 0; i < code->symbols; i++) {
        unsigned length = code->lengths[i];
        if (length == 0) continue;
        for (uint32_t bits = code->words[i]; bits < 1u << MAX_BITS; bits += 1u << length) {
            decoder->symbol[bits] = (uint16_t)i;
            decoder->length[bits] = (uint8_t)length;
        }
    }
}

static int decode(const struct decoder *decoder, struct bits *in) {
    uint32_t bits = peek(in, MAX_BITS);
    if (decoder->length[bits] == 0) die("the compressed text is damaged at byte %zu", in->len);
    take(in, decoder->length[bits]);
    return decoder->symbol[bits];
}

// --- LZ77

struct token {
    uint16_t length; // 0: a literal
    uint16_t distance;
    uint8_t literal;
};

static unsigned log2_floor(uint32_t value) {
    return 31 - (unsigned)__builtin_clz(value);
}

static void write_block(struct bits *out, const struct token *tokens, size_t count) {
    uint32_t literals[SYMBOLS] = {0}, distances[BUCKETS] = {0};
    literals[END_SYMBOL] = 1;
    for (size_t i = 0; i < count; i++) {
        if (tokens[i].length) {
            literals[FIRST_LENGTH + log2_floor(tokens[i].length)]++;
            distances[log2_floor(tokens[i].distance)]++;
        } else {
            literals[tokens[i].literal]++;
        }
    }
    static struct code literal_code, distance_code;
    make_code(&literal_code, literals, SYMBOLS);
    make_code(&distance_code, distances, BUCKETS);
    for (int i = 0; i < SYMBOLS; i++) put(out, literal_code.lengths[i], 4);
    for (int i = 0; i < BUCKETS; i++) put(out, distance_code.lengths[i], 4);
    for (size_t i = 0; i < count; i++) {
        const struct token *token = &tokens[i];
        unsigned symbol = token->length ? FIRST_LENGTH + log2_floor(token->length) : token->literal;
        put(out, literal_code.words[symbol], literal_code.lengths[symbol]);
        if (token->length == 0) continue;
        unsigned bucket = log2_floor(token->length);
        put(out, token->length - (1u << bucket), bucket);
        bucket = log2_floor(token->distance);
        put(out, distance_code.words[bucket], distance_code.lengths[bucket]);
        put(out, token->distance - (1u << bucket), bucket);
    }
    put(out, literal_code.words[END_SYMBOL], literal_code.lengths[END_SYMBOL]);
}

static uint32_t hash4(const uint8_t *at) {
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return word * 2654435761u >> 17;
}

static struct bits compress(const uint8_t *text, size_t len) {
    static uint32_t newest[WINDOW], older[WINDOW]; // positions + 1; 0 is none
    struct token *tokens = allocate(BLOCK_TOKENS, sizeof *tokens);
    struct bits out = {0};
    size_t count = 0;
    for (size_t at = 0; at < len;) {
        size_t best = 0, distance = 0;
        size_t most = len - at < MAX_MATCH ? len - at : MAX_MATCH;
        if (most >= MIN_MATCH) {
            uint32_t candidate = newest[hash4(text + at)];
            for (int chain = 0; candidate && chain < MAX_CHAIN; chain++) {
                size_t from = candidate - 1;
                if (at - from >= WINDOW) break;
                size_t length = 0;
                while (length < most && text[from + length] == text[at + length]) length++;
                if (length > best) best = length, distance = at - from;
                candidate = older[from % WINDOW];
            }
        }
        if (best < MIN_MATCH) best = 0;
        tokens[count++] = (struct token){(uint16_t)best, (uint16_t)distance, text[at]};
        for (size_t end = at + (best ? best : 1); at < end; at++) {
            if (len - at < MIN_MATCH) continue;
            uint32_t hash = hash4(text + at);
            older[at % WINDOW] = newest[hash];
            newest[hash] = (uint32_t)at + 1;
        }
        if (count == BLOCK_TOKENS || at == len) {
            write_block(&out, tokens, count);
            count = 0;
        }
    }
    put(&out, 0, 7); // the last bits reach a whole byte
    free(tokens);
    return out;
}

static void restore(struct bits *in, uint8_t *text, size_t len) {
    static struct decoder literals, distances;
    for (size_t at = 0; at < len;) {
        static struct code code;
        code.symbols = SYMBOLS;
        for (int i = 0; i < SYMBOLS; i++) code.lengths[i] = (uint8_t)take(in, 4);
        make_decoder(&literals, &code);
        code.symbols = BUCKETS;
        for (int i = 0; i < BUCKETS; i++) code.lengths[i] = (uint8_t)take(in, 4);
        make_decoder(&distances, &code);
        for (int symbol; (symbol = decode(&literals, in)) != END_SYMBOL;) {
            if (symbol < END_SYMBOL) {
                if (at == len) die("the restored text is too long");
                text[at++] = (uint8_t)symbol;
                continue;
            }
            unsigned bucket = (unsigned)(symbol - FIRST_LENGTH);
            size_t length = (1u << bucket) + take(in, bucket);
            bucket = (unsigned)decode(&distances, in);
            size_t distance = (1u << bucket) + take(in, bucket);
            if (distance > at || length > len - at) die("a match outside the text at %zu", at);
            for (; length; length--, at++) text[at] = text[at - distance];
        }
    }
}

int main(int argc, char **argv) {
    struct text text = text_argument(argc, argv, 128);
    struct bits packed = compress((const uint8_t *)text.bytes, text.len);
    struct bits in = {packed.bytes, 0, packed.len, 0, 0};
    uint8_t *restored = allocate(text.len, 1);
    restore(&in, restored, text.len);
    if (memcmp(restored, text.bytes, text.len) != 0) die("the restored text differs from the original");
    printf("%zu bytes to %zu and back\n", text.len, packed.len);
    absorb(packed.bytes, packed.len);
    return print_digest();
}
