// What a task offers, as C's library sees it. See ../README.md for what is printed.
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *yes(int claim) {
    return claim ? "yes" : "no";
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static long sum_of(const char *path) {
    FILE *file = fopen(path, "r");
    long sum = 0, number;
    while (file && fscanf(file, "%ld", &number) == 1) {
        sum += number;
    }
    fclose(file);
    return sum;
}

int main(int argc, char **argv) {
    printf("args:");
    for (int i = 0; i < argc; i++) {
        printf(" %s", argv[i]);
    }
    printf("\nMODE=%s\n", getenv("MODE"));

    int lines = 0, bytes = 0;
    for (int c; (c = getchar()) != EOF; bytes++) {
        lines += c == '\n';
    }
    printf("stdin: %d lines, %d bytes\n", lines, bytes);

    char *names[16];
    int count = 0;
    DIR *directory = opendir("data");
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (entry->d_name[0] != '.') {
            names[count++] = strdup(entry->d_name);
        }
    }
    closedir(directory);
    qsort(names, count, sizeof *names, by_name);
    printf("data:");
    long sum = 0;
    for (int i = 0; i < count; i++) {
        char path[64];
        snprintf(path, sizeof path, "/data/%s", names[i]);
        printf(" %s", names[i]);
        sum += sum_of(path);
    }
    printf("\nsum: %ld\n", sum);

    printf("missing: %s\n", yes(!fopen("data/missing.txt", "r") && errno == ENOENT));
    printf("read-only: %s\n", yes(!fopen("data/a.txt", "w") && errno == EROFS));

    time_t now = time(NULL);
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    nanosleep(&(struct timespec){.tv_sec = 1000}, NULL);
    clock_gettime(CLOCK_MONOTONIC, &after);
    printf("year: %d\ntime passes: %s\n", gmtime(&now)->tm_year + 1900, yes(after.tv_sec >= before.tv_sec + 1000));
    unsigned char a[8], b[8];
    getentropy(a, sizeof a);
    getentropy(b, sizeof b);
    printf("random: %s\n", yes(memcmp(a, b, sizeof a) != 0));

    FILE *report = fopen("/out/report.txt", "w");
    fprintf(report, "sum %ld\n", sum);
    fclose(report);
    report = fopen("out/report.txt", "a");
    fputs("appended\n", report);
    fclose(report);
    mkdir("out/sub", 0777);
    FILE *copy = fopen("tmp/copy", "w+"), *from = fopen("data/b.txt", "r");
    for (int c; (c = getc(from)) != EOF;) {
        putc(c, copy);
    }
    fclose(from);
    fclose(copy);
    rename("tmp/copy", "out/sub/copy.txt");
    fclose(fopen("out/scratch", "w"));
    unlink("out/scratch");
    struct stat stat_of_copy;
    printf("copied: %d bytes\n", stat("out/sub/copy.txt", &stat_of_copy) ? -1 : (int)stat_of_copy.st_size);

    fputs("done\n", stderr);
    return 3;
}
