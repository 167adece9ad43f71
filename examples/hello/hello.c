// Greets whoever is named on standard input and counts the words of the name.
//
// args:    [GREETING]     "Hello" without one
// stdin:   a name
// stdout:  GREETING, NAME! (N words)
// exit:    0, or 1 with a sentence on stderr when there is no name

#include <ctype.h>
#include <stdio.h>

int main(int argc, char **argv) {
    static char name[4096];
    size_t length = fread(name, 1, sizeof name - 1, stdin);
    while (length > 0 && isspace((unsigned char)name[length - 1])) length--;
    name[length] = '\0';
    if (length == 0) {
        fprintf(stderr, "hello: write a name to standard input\n");
        return 1;
    }

    int words = 0, inside = 0;
    for (const char *at = name; *at; at++) {
        int letter = !isspace((unsigned char)*at);
        words += letter && !inside;
        inside = letter;
    }
    printf("%s, %s! (%d word%s)\n", argc > 1 ? argv[1] : "Hello", name, words, words == 1 ? "" : "s");
    return 0;
}
