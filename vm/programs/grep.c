// Counts the lines of a text in which regular expressions match. Each is compiled to a small program, which runs over
// the text in all its states at once (Thompson 1968; Cox, "Regular expression matching: the virtual machine approach").
// Time is linear in text and expression, whatever they are.
// usage: grep [KILOBYTES | -]
#include "text.h"

enum kind { CHAR, ANY, CLASS, SPLIT, JUMP, BEGIN, END, MATCH };

struct instruction {
    enum kind kind;
    uint8_t byte;
    int x, y;          // where SPLIT and JUMP go on
    uint32_t class[8]; // a bit a byte
};

enum { MAX_PROGRAM = 256 };

struct program {
    struct instruction code[MAX_PROGRAM];
    int len;
};

struct parser {
    const char *at;
    struct program *program;
};

static int emit(struct program *program, enum kind kind) {
    if (program->len == MAX_PROGRAM) die("the expression is too long");
    program->code[program->len] = (struct instruction){.kind = kind};
    return program->len++;
}

// Makes room for one instruction before `at`; jumps inside the moved part move with it.
static void insert(struct program *program, int at, enum kind kind) {
    emit(program, kind);
    for (int i = program->len - 1; i > at; i--) {
        program->code[i] = program->code[i - 1];
        struct instruction *moved = &program->code[i];
        if (moved->kind == SPLIT || moved->kind == JUMP) {
            if (moved->x >= at) moved->x++;
            if (moved->y >= at) moved->y++;
        }
    }
    program->code[at] = (struct instruction){.kind = kind};
}

static void class_add(struct instruction *instruction, unsigned from, unsigned to) {
    for (unsigned byte = from; byte <= to; byte++) instruction->class[byte / 32] |= 1u << byte % 32;
}

static void parse_class(struct parser *parser) {
    struct instruction *instruction = &parser->program->code[emit(parser->program, CLASS)];
    bool negated = *parser->at == '^';
    if (negated) parser->at++;
    for (; *parser->at && *parser->at != ']'; parser->at++) {
        uint8_t from = (uint8_t)*parser->at, to = from;
        if (parser->at[1] == '-' && parser->at[2] && parser->at[2] != ']') {
            to = (uint8_t)parser->at[2];
            parser->at += 2;
        }
        class_add(instruction, from, to);
    }
    if (*parser->at++ != ']') die("a class without end");
    for (int i = 0; negated && i < 8; i++) instruction->class[i] = ~instruction->class[i];
}

static void parse_alternatives(struct parser *parser);

static void parse_atom(struct parser *parser) {
    char c = *parser->at++;
    switch (c) {
    case '(':
        parse_alternatives(parser);
        if (*parser->at++ != ')') die("a group without end");
        break;
    case '[': parse_class(parser); break;
    case '.': emit(parser->program, ANY); break;
    case '^': emit(parser->program, BEGIN); break;
    case '$': emit(parser->program, END); break;
    case '\\': c = *parser->at++; // fall through
    default: {
        int at = emit(parser->program, CHAR);
        parser->program->code[at].byte = (uint8_t)c;
    }
    }
}

static void parse_sequence(struct parser *parser) {
    struct program *program = parser->program;
    while (*parser->at && *parser->at != '|' && *parser->at != ')') {
        int begin = program->len;
        parse_atom(parser);
        char repeat = *parser->at;
        if (repeat == '*' || repeat == '?') {
            insert(program, begin, SPLIT);
            if (repeat == '*') program->code[emit(program, JUMP)].x = begin;
            program->code[begin].x = begin + 1;
            program->code[begin].y = program->len;
            parser->at++;
        } else if (repeat == '+') {
            int at = emit(program, SPLIT);
            program->code[at].x = begin;
            program->code[at].y = at + 1;
            parser->at++;
        }
    }
}

static void parse_alternatives(struct parser *parser) {
    struct program *program = parser->program;
    int begin = program->len;
    parse_sequence(parser);
    if (*parser->at != '|') return;
    parser->at++;
    insert(program, begin, SPLIT);
    int jump = emit(program, JUMP);
    program->code[begin].x = begin + 1;
    program->code[begin].y = program->len;
    parse_alternatives(parser);
    program->code[jump].x = program->len;
}

// Which instructions are alive: a list, and for each when it was last put there.
struct states {
    int list[MAX_PROGRAM];
    int len;
    size_t stamp[MAX_PROGRAM];
};

static void add(const struct program *program, struct states *states, size_t stamp, int at, bool begin, bool end) {
    if (states->stamp[at] == stamp) return;
    states->stamp[at] = stamp;
    const struct instruction *instruction = &program->code[at];
    switch (instruction->kind) {
    case JUMP: add(program, states, stamp, instruction->x, begin, end); break;
    case SPLIT:
        add(program, states, stamp, instruction->x, begin, end);
        add(program, states, stamp, instruction->y, begin, end);
        break;
    case BEGIN:
        if (begin) add(program, states, stamp, at + 1, begin, end);
        break;
    case END:
        if (end) add(program, states, stamp, at + 1, begin, end);
        break;
    default: states->list[states->len++] = at;
    }
}

static bool matches(const struct program *program, const char *line, size_t len) {
    static struct states now, next;
    static size_t stamp;
    struct states *current = &now, *following = &next;
    current->len = 0;
    for (size_t at = 0;; at++) {
        // A match may begin anywhere: the first instruction joins those that have come here.
        if (at == 0) stamp++;
        add(program, current, stamp, 0, at == 0, at == len);
        stamp++;
        following->len = 0;
        for (int i = 0; i < current->len; i++) {
            const struct instruction *instruction = &program->code[current->list[i]];
            if (instruction->kind == MATCH) return true;
            if (at == len) continue;
            uint8_t byte = (uint8_t)line[at];
            bool eats = instruction->kind == ANY || (instruction->kind == CHAR && instruction->byte == byte) ||
                        (instruction->kind == CLASS && instruction->class[byte / 32] >> byte % 32 & 1);
            if (eats) add(program, following, stamp, current->list[i] + 1, false, at + 1 == len);
        }
        if (at == len) return false;
        struct states *swap = current;
        current = following;
        following = swap;
    }
}

int main(int argc, char **argv) {
    static const char *const expressions[] = {
        "tua", "^[A-Z]", "\\.$", "(con|pre)(ver|sti)", "q[aeiou]+r?a", "a.*b.*c.*d", "(in|un)[a-z]*(y|e) [^aeiou]", "(a*)*$",
    };
    struct text text = text_argument(argc, argv, 64);
    for (size_t i = 0; i < sizeof expressions / sizeof *expressions; i++) {
        static struct program program;
        program.len = 0;
        struct parser parser = {expressions[i], &program};
        parse_alternatives(&parser);
        if (*parser.at) die("`%s` ends too early", expressions[i]);
        emit(&program, MATCH);
        uint64_t found = 0, number = 0;
        for (size_t begin = 0; begin < text.len; number++) {
            const char *newline = memchr(text.bytes + begin, '\n', text.len - begin);
            size_t end = newline ? (size_t)(newline - text.bytes) : text.len;
            if (matches(&program, text.bytes + begin, end - begin)) {
                found++;
                absorb_u64(number);
            }
            begin = end + 1;
        }
        printf("%6" PRIu64 " of %" PRIu64 " lines: %s\n", found, number, expressions[i]);
    }
    return print_digest();
}
