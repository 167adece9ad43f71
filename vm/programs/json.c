// Reads a JSON text (RFC 8259) into a tree, prints it again, reads what it printed, and adds up what it finds.
// usage: json [RECORDS | -]     - reads the text from standard input
#include "text.h"

enum type { NUL, FALSE, TRUE, NUMBER, STRING, ARRAY, OBJECT };

// A number is digits times a power of ten, so that printing it gives what was read.
struct value {
    enum type type;
    int32_t exponent;
    int64_t digits;
    const char *text; // of a string; also a member's name
    size_t len;
    const char *name;
    size_t name_len;
    struct value *child, *next;
};

// --- reading

struct reader {
    const char *begin, *at, *end;
};

static _Noreturn void fail(const struct reader *in, const char *what) {
    die("at byte %zu: %s", (size_t)(in->at - in->begin), what);
}

static void skip_space(struct reader *in) {
    while (in->at < in->end && (*in->at == ' ' || *in->at == '\n' || *in->at == '\t' || *in->at == '\r')) in->at++;
}

static bool next_is(struct reader *in, char c) {
    if (in->at == in->end || *in->at != c) return false;
    in->at++;
    return true;
}

static uint32_t hex4(struct reader *in) {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        if (in->at == in->end) fail(in, "an escape without end");
        char c = *in->at++;
        if (c >= '0' && c <= '9') value = 16 * value + (uint32_t)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') value = 16 * value + (uint32_t)((c | 0x20) - 'a' + 10);
        else fail(in, "an escape with other than hexadecimal digits");
    }
    return value;
}

static char *put_utf8(char *to, uint32_t code) {
    if (code < 0x80) {
        *to++ = (char)code;
        return to;
    }
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    *to++ = (char)((0xff00 >> (more + 1) & 0xff) | code >> 6 * more);
    while (more--) *to++ = (char)(0x80 | (code >> 6 * more & 0x3f));
    return to;
}

static const char *read_string(struct reader *in, size_t *len) {
    if (!next_is(in, '"')) fail(in, "a string begins with a quotation mark");
    const char *close = in->at;
    while (close < in->end && *close != '"') close += *close == '\\' ? 2 : 1;
    if (close >= in->end) fail(in, "a string without end");
    char *text = allocate((size_t)(close - in->at) + 1, 1), *to = text;
    while (in->at < close) {
        char c = *in->at++;
        if ((unsigned char)c < 0x20) fail(in, "a control character in a string");
        if (c != '\\') {
            *to++ = c;
            continue;
        }
        switch (c = *in->at++) {
        case 'b': *to++ = '\b'; break;
        case 'f': *to++ = '\f'; break;
        case 'n': *to++ = '\n'; break;
        case 'r': *to++ = '\r'; break;
        case 't': *to++ = '\t'; break;
        case 'u': {
            uint32_t code = hex4(in);
            if (code >= 0xd800 && code < 0xdc00 && close - in->at >= 6 && in->at[0] == '\\' && in->at[1] == 'u') {
                in->at += 2;
                code = 0x10000 + ((code - 0xd800) << 10) + (hex4(in) - 0xdc00);
            }
            to = put_utf8(to, code);
            break;
        }
        case '"': case '\\': case '/': *to++ = c; break;
        default: fail(in, "an unknown escape");
        }
    }
    in->at = close + 1;
    *len = (size_t)(to - text);
    return text;
}

static int64_t read_digits(struct reader *in, int64_t digits, int32_t *count) {
    const char *begin = in->at;
    for (; in->at < in->end && *in->at >= '0' && *in->at <= '9'; in->at++, ++*count) {
        if (digits > (INT64_MAX - 9) / 10) fail(in, "a number with too many digits");
        digits = 10 * digits + (*in->at - '0');
    }
    if (in->at == begin) fail(in, "a digit is missing");
    return digits;
}

static void read_number(struct reader *in, struct value *value) {
    bool negative = next_is(in, '-');
    int32_t count = 0;
    value->type = NUMBER;
    value->digits = read_digits(in, 0, &count);
    count = 0;
    if (next_is(in, '.')) value->digits = read_digits(in, value->digits, &count);
    value->exponent = -count;
    if (next_is(in, 'e') || next_is(in, 'E')) {
        bool down = next_is(in, '-');
        if (!down) next_is(in, '+');
        int64_t exponent = read_digits(in, 0, &count);
        if (exponent > 1000) fail(in, "a number beyond all bounds");
        value->exponent += (int32_t)(down ? -exponent : exponent);
    }
    if (negative) value->digits = -value->digits;
}

static bool read_word(struct reader *in, const char *word) {
    size_t len = strlen(word);
    if ((size_t)(in->end - in->at) < len || memcmp(in->at, word, len) != 0) return false;
    in->at += len;
    return true;
}

static struct value *read_value(struct reader *in, int depth);

static void read_children(struct reader *in, struct value *value, char close, int depth) {
    struct value **last = &value->child;
    skip_space(in);
    if (next_is(in, close)) return;
    do {
        const char *name = NULL;
        size_t len = 0;
        skip_space(in);
        if (close == '}') {
            name = read_string(in, &len);
            skip_space(in);
            if (!next_is(in, ':')) fail(in, "a colon is missing");
        }
        struct value *child = read_value(in, depth + 1);
        child->name = name;
        child->name_len = len;
        *last = child;
        last = &child->next;
        skip_space(in);
    } while (next_is(in, ','));
    if (!next_is(in, close)) fail(in, "a comma or the end is missing");
}

static struct value *read_value(struct reader *in, int depth) {
    if (depth > 200) fail(in, "nested too deeply");
    struct value *value = allocate(1, sizeof *value);
    skip_space(in);
    if (in->at == in->end) fail(in, "a value is missing");
    if (next_is(in, '[')) value->type = ARRAY, read_children(in, value, ']', depth);
    else if (next_is(in, '{')) value->type = OBJECT, read_children(in, value, '}', depth);
    else if (*in->at == '"') value->type = STRING, value->text = read_string(in, &value->len);
    else if (read_word(in, "null")) value->type = NUL;
    else if (read_word(in, "true")) value->type = TRUE;
    else if (read_word(in, "false")) value->type = FALSE;
    else read_number(in, value);
    return value;
}

static struct value *read_document(const char *text, size_t len) {
    struct reader in = {text, text, text + len};
    struct value *value = read_value(&in, 0);
    skip_space(&in);
    if (in.at != in.end) fail(&in, "more after the end");
    return value;
}

static void release(struct value *value) {
    while (value) {
        struct value *next = value->next;
        release(value->child);
        free((char *)value->text);
        free((char *)value->name);
        free(value);
        value = next;
    }
}

// --- printing

struct buffer {
    char *bytes;
    size_t len, room;
};

static void put_bytes(struct buffer *out, const char *bytes, size_t len) {
    if (out->room - out->len < len) {
        out->room = 2 * out->room + len;
        out->bytes = realloc(out->bytes, out->room);
        if (!out->bytes) die("no memory for %zu bytes of JSON", out->room);
    }
    memcpy(out->bytes + out->len, bytes, len);
    out->len += len;
}

static void print_string(struct buffer *out, const char *text, size_t len) {
    put_bytes(out, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        char escape[8];
        if (c == '"' || c == '\\') put_bytes(out, escape, (size_t)snprintf(escape, sizeof escape, "\\%c", c));
        else if (c < 0x20) put_bytes(out, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", c));
        else put_bytes(out, text + i, 1);
    }
    put_bytes(out, "\"", 1);
}

static void print_value(struct buffer *out, const struct value *value) {
    static const char *const words[] = {"null", "false", "true"};
    char number[48];
    switch (value->type) {
    case NUL: case FALSE: case TRUE: put_bytes(out, words[value->type], strlen(words[value->type])); return;
    case NUMBER: {
        int len = snprintf(number, sizeof number, "%" PRId64, value->digits);
        if (value->exponent) len += snprintf(number + len, sizeof number - (size_t)len, "e%" PRId32, value->exponent);
        put_bytes(out, number, (size_t)len);
        return;
    }
    case STRING: print_string(out, value->text, value->len); return;
    default: break;
    }
    put_bytes(out, value->type == ARRAY ? "[" : "{", 1);
    for (const struct value *child = value->child; child; child = child->next) {
        if (child != value->child) put_bytes(out, ",", 1);
        if (value->type == OBJECT) {
            print_string(out, child->name, child->name_len);
            put_bytes(out, ":", 1);
        }
        print_value(out, child);
    }
    put_bytes(out, value->type == ARRAY ? "]" : "}", 1);
}

// --- what is done with it

struct totals {
    uint64_t values[OBJECT + 1];
    double sum;
};

static void add_up(struct totals *totals, const struct value *value) {
    for (; value; value = value->next) {
        totals->values[value->type]++;
        if (value->type == NUMBER) {
            double number = (double)value->digits;
            for (int32_t i = 0; i < value->exponent && i < 400; i++) number *= 10;
            for (int32_t i = 0; i > value->exponent && i > -400; i--) number /= 10;
            totals->sum += number;
        }
        add_up(totals, value->child);
    }
}

static struct text make_document(size_t records) {
    struct text prose = make_text(64 * records + 64);
    struct buffer out = {0};
    char line[256];
    put_bytes(&out, "[\n", 2);
    for (size_t i = 0; i < records; i++) {
        const char *active = random_below(2) ? "true" : "false", *owner = random_below(5) ? "\"Zo\\u00eb \\ud83d\\ude00\"" : "null";
        const char *sign = random_below(3) ? "" : "-";
        uint32_t whole = random_below(100000), cents = random_below(100);
        int len = snprintf(line, sizeof line, "  {\"id\": %zu, \"active\": %s, \"owner\": %s, \"balance\": %s%" PRIu32 ".%02" PRIu32 ", ", i,
                           active, owner, sign, whole, cents);
        put_bytes(&out, line, (size_t)len);
        put_bytes(&out, "\"note\": \"", 9);
        for (const char *at = prose.bytes + 64 * i, *end = at + random_below(64); at < end; at++)
            put_bytes(&out, *at == '\n' ? "\\n" : at, *at == '\n' ? 2 : 1);
        uint32_t first = random_below(9), second = random_below(1000000);
        len = snprintf(line, sizeof line, "\", \"path\": [%" PRIu32 ", [%" PRIu32 "e-3, {}], []]}%s\n", first, second,
                       i + 1 < records ? "," : "");
        put_bytes(&out, line, (size_t)len);
    }
    put_bytes(&out, "]\n", 2);
    free(prose.bytes);
    return (struct text){out.bytes, out.len};
}

int main(int argc, char **argv) {
    bool given = argc == 2 && strcmp(argv[1], "-") == 0;
    struct text text = given ? read_text(stdin) : make_document(size_argument(argc, argv, 1000, 1 << 20));
    struct value *document = read_document(text.bytes, text.len);
    struct buffer printed = {0}, again = {0};
    print_value(&printed, document);
    struct value *copy = read_document(printed.bytes, printed.len);
    print_value(&again, copy);
    if (again.len != printed.len || memcmp(again.bytes, printed.bytes, printed.len) != 0) die("what was printed reads differently");
    struct totals totals = {0};
    add_up(&totals, copy);
    printf("%zu bytes, %zu when printed: %" PRIu64 " objects, %" PRIu64 " arrays, %" PRIu64 " strings, %" PRIu64 " numbers with the sum %.3f\n",
           text.len, printed.len, totals.values[OBJECT], totals.values[ARRAY], totals.values[STRING], totals.values[NUMBER], totals.sum);
    absorb(printed.bytes, printed.len);
    absorb_f64(totals.sum);
    release(document);
    release(copy);
    return print_digest();
}
