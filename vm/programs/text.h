// Text to work on: standard input if the argument is `-`, otherwise made up, so many kilobytes as the argument says.
#ifndef TEXT_H
#define TEXT_H

#include "common.h"

struct text {
    char *bytes;
    size_t len;
};

static inline struct text read_text(FILE *file) {
    struct text text = {NULL, 0};
    for (size_t room = 1 << 16;; room *= 2) {
        text.bytes = realloc(text.bytes, room);
        if (!text.bytes) die("no memory for a text of %zu bytes", room);
        text.len += fread(text.bytes + text.len, 1, room - text.len, file);
        if (text.len < room) return text;
    }
}

enum { VOCABULARY = 2000 };

struct vocabulary {
    char words[VOCABULARY][16];
    uint8_t letters[VOCABULARY];
};

static inline void make_vocabulary(struct vocabulary *vocabulary) {
    static const char *const syllables[] = {"a",  "be", "con", "de", "e",  "for", "ga", "he", "in", "ka", "lo",
                                            "me", "no", "o",   "pre", "qua", "ra", "sti", "tu", "un", "ver", "y"};
    for (size_t i = 0; i < VOCABULARY; i++) {
        // Frequent words, the first ones, are short.
        for (uint32_t left = 1 + (i > 20) + (i > 400) + random_below(2); left; left--)
            strcat(vocabulary->words[i], syllables[random_below(sizeof syllables / sizeof *syllables)]);
        vocabulary->letters[i] = (uint8_t)strlen(vocabulary->words[i]);
    }
}

// Sentences of words whose frequency falls with their rank, in lines of some 70 letters.
static inline struct text make_text(size_t len) {
    static struct vocabulary vocabulary;
    make_vocabulary(&vocabulary);
    struct text text = {allocate(len + sizeof *vocabulary.words + 2, 1), 0};
    size_t line = 0;
    bool begins = true;
    while (text.len < len) {
        double rank = random_unit();
        size_t word = (size_t)(rank * rank * rank * VOCABULARY);
        char *to = text.bytes + text.len;
        for (size_t i = 0; i < vocabulary.letters[word]; i++) to[i] = vocabulary.words[word][i];
        if (begins) to[0] -= 'a' - 'A';
        text.len += vocabulary.letters[word];
        begins = random_below(12) == 0;
        if (begins) text.bytes[text.len++] = '.';
        bool full = text.len - line > 70;
        text.bytes[text.len++] = full ? '\n' : ' ';
        if (full) line = text.len;
    }
    text.len = len;
    return text;
}

static inline struct text text_argument(int argc, char **argv, size_t usual_kilobytes) {
    if (argc == 2 && strcmp(argv[1], "-") == 0) return read_text(stdin);
    return make_text(1024 * size_argument(argc, argv, usual_kilobytes, 1 << 18));
}

#endif
