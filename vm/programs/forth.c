// A small Forth: compiles source text to a list of cells and interprets it. Indirect calls and unpredictable branches,
// as interpreters have them.
// usage: forth [ROUNDS]
#include "common.h"
#include <ctype.h>

typedef int64_t cell;

enum { CODE_CELLS = 4096, STACK_CELLS = 1024, WORDS = 128, DATA_CELLS = 1 << 16 };

// What a cell of code means; operands are in the next cell.
enum opcode { LITERAL, CALL, RETURN, JUMP, JUMP_IF_ZERO, LOOP_BEGIN, LOOP_END, LOOP_INDEX, PRIMITIVE };

static cell code[CODE_CELLS], data[DATA_CELLS];
static size_t code_len;

static struct word {
    char name[16];
    size_t entry;    // where its code begins
    int primitive;   // or its number there, from 0
} words[WORDS];
static size_t word_count;

static struct machine {
    cell stack[STACK_CELLS], returns[STACK_CELLS];
    size_t depth, return_depth;
    uint64_t executed;
} machine;

static void push(cell value) {
    if (machine.depth == STACK_CELLS) die("forth: the stack is full");
    machine.stack[machine.depth++] = value;
}

static cell pop(void) {
    if (machine.depth == 0) die("forth: the stack is empty");
    return machine.stack[--machine.depth];
}

static void push_return(cell value) {
    if (machine.return_depth == STACK_CELLS) die("forth: words are nested too deeply");
    machine.returns[machine.return_depth++] = value;
}

// --- primitives, called through a table

static void plus(void) { cell b = pop(); push((cell)((uint64_t)pop() + (uint64_t)b)); }
static void minus(void) { cell b = pop(); push((cell)((uint64_t)pop() - (uint64_t)b)); }
static void star(void) { cell b = pop(); push((cell)((uint64_t)pop() * (uint64_t)b)); }
static void slash(void) { cell b = pop(); push(b == 0 ? 0 : pop() / b); }
static void mod(void) { cell b = pop(); push(b == 0 ? 0 : pop() % b); }
static void equal(void) { cell b = pop(); push(pop() == b ? -1 : 0); }
static void less(void) { cell b = pop(); push(pop() < b ? -1 : 0); }
static void and(void) { cell b = pop(); push(pop() & b); }
static void xor(void) { cell b = pop(); push(pop() ^ b); }
static void shift(void) { cell b = pop(); push((cell)((uint64_t)pop() >> (b & 63))); }
static void dup(void) { cell a = pop(); push(a); push(a); }
static void drop(void) { pop(); }
static void swap(void) { cell b = pop(), a = pop(); push(b); push(a); }
static void over(void) { cell b = pop(), a = pop(); push(a); push(b); push(a); }
static void rotate(void) { cell c = pop(), b = pop(), a = pop(); push(b); push(c); push(a); }
static void fetch(void) { push(data[pop() & (DATA_CELLS - 1)]); }
static void store(void) { cell at = pop(); data[at & (DATA_CELLS - 1)] = pop(); }
static void print(void) { cell a = pop(); printf("%" PRId64 "\n", a); absorb_u64((uint64_t)a); }

static const struct {
    const char *name;
    void (*run)(void);
} primitives[] = {
    {"+", plus}, {"-", minus}, {"*", star}, {"/", slash}, {"mod", mod}, {"=", equal}, {"<", less}, {"and", and}, {"xor", xor},
    {"rshift", shift}, {"dup", dup}, {"drop", drop}, {"swap", swap}, {"over", over}, {"rot", rotate}, {"@", fetch}, {"!", store},
    {".", print},
};

// --- the compiler

static void emit(cell value) {
    if (code_len == CODE_CELLS) die("forth: the program is too long");
    code[code_len++] = value;
}

static struct word *find(const char *name) {
    for (size_t i = word_count; i-- > 0;)
        if (strcmp(words[i].name, name) == 0) return &words[i];
    return NULL;
}

static void define(const char *name, size_t entry, int primitive) {
    if (word_count == WORDS) die("forth: too many words");
    struct word *word = &words[word_count++];
    snprintf(word->name, sizeof word->name, "%s", name);
    word->entry = entry;
    word->primitive = primitive;
}

static bool next_name(const char **source, char name[16]) {
    while (isspace((unsigned char)**source)) ++*source;
    size_t len = 0;
    for (; **source && !isspace((unsigned char)**source); ++*source)
        if (len < 15) name[len++] = **source;
    name[len] = 0;
    return len > 0;
}

// Compiles definitions; what is outside of them becomes the main program, whose beginning is the result.
static size_t compile(const char *source) {
    size_t open[16], opened = 0, main_begin = 0;
    char name[16];
    while (next_name(&source, name)) {
        if (strcmp(name, ":") == 0) {
            if (!next_name(&source, name)) die("forth: a definition without a name");
            define(name, code_len, -1);
        } else if (strcmp(name, ";") == 0) {
            emit(RETURN);
            main_begin = code_len;
        } else if (strcmp(name, "if") == 0) {
            emit(JUMP_IF_ZERO);
            open[opened++] = code_len;
            emit(0);
        } else if (strcmp(name, "else") == 0) {
            emit(JUMP);
            emit(0);
            code[open[opened - 1]] = (cell)code_len;
            open[opened - 1] = code_len - 1;
        } else if (strcmp(name, "then") == 0) {
            code[open[--opened]] = (cell)code_len;
        } else if (strcmp(name, "begin") == 0) {
            open[opened++] = code_len;
        } else if (strcmp(name, "until") == 0) {
            emit(JUMP_IF_ZERO);
            emit((cell)open[--opened]);
        } else if (strcmp(name, "do") == 0) {
            emit(LOOP_BEGIN);
            open[opened++] = code_len;
        } else if (strcmp(name, "loop") == 0) {
            emit(LOOP_END);
            emit((cell)open[--opened]);
        } else if (strcmp(name, "i") == 0) {
            emit(LOOP_INDEX);
        } else {
            const struct word *word = find(name);
            char *end;
            cell number = strtoll(name, &end, 10);
            if (word && word->primitive >= 0) {
                emit(PRIMITIVE + word->primitive);
            } else if (word) {
                emit(CALL);
                emit((cell)word->entry);
            } else if (*end == 0) {
                emit(LITERAL);
                emit(number);
            } else {
                die("forth: unknown word %s", name);
            }
        }
    }
    emit(RETURN);
    return main_begin;
}

static void run(size_t at) {
    push_return(-1);
    for (;;) {
        machine.executed++;
        cell op = code[at++];
        switch (op) {
        case LITERAL: push(code[at++]); break;
        case CALL:
            push_return((cell)at + 1);
            at = (size_t)code[at];
            break;
        case RETURN: {
            cell to = machine.returns[--machine.return_depth];
            if (to < 0) return;
            at = (size_t)to;
            break;
        }
        case JUMP: at = (size_t)code[at]; break;
        case JUMP_IF_ZERO: at = pop() == 0 ? (size_t)code[at] : at + 1; break;
        case LOOP_BEGIN: { // limit, first
            cell first = pop();
            push_return(pop());
            push_return(first);
            break;
        }
        case LOOP_END:
            if (++machine.returns[machine.return_depth - 1] < machine.returns[machine.return_depth - 2]) {
                at = (size_t)code[at];
            } else {
                machine.return_depth -= 2;
                at++;
            }
            break;
        case LOOP_INDEX: push(machine.returns[machine.return_depth - 1]); break;
        default: primitives[op - PRIMITIVE].run();
        }
    }
}

static const char *const source =
    ": fib dup 2 < if else dup 1 - fib swap 2 - fib + then ; "
    ": collatz 0 swap begin dup 2 mod if 3 * 1 + else 2 / then swap 1 + swap dup 1 = until drop ; "
    ": longest 0 swap 2 do i collatz over over < if swap then drop loop ; "
    ": clear 60001 ! 60000 ! 60001 @ dup * begin dup 60000 @ < if 0 over ! 60001 @ + 0 else -1 then until drop ; "
    ": sieve 60002 ! 60002 @ 2 do 1 i ! loop 0 60002 @ 2 do i @ if 1 + 60002 @ i clear then loop ; "
    ": gcd begin swap over mod dup 0 = until drop ; "
    ": coprime 0 swap dup 1 do dup i gcd 1 = if swap 1 + swap then loop drop ; ";

int main(int argc, char **argv) {
    size_t rounds = size_argument(argc, argv, 1, 100000);
    for (int i = 0; i < (int)(sizeof primitives / sizeof *primitives); i++) define(primitives[i].name, 0, i);
    char program[2048];
    snprintf(program, sizeof program, "%s 21 fib . 2000 longest . 3000 coprime . 20000 sieve .", source);
    size_t begin = compile(program);
    for (size_t round = 0; round < rounds; round++) run(begin);
    printf("%" PRIu64 " cells executed\n", machine.executed);
    absorb_u64(machine.executed);
    return print_digest();
}
