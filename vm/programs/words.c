// Counts the words of a text: how many, how many different, which are the most frequent.
// usage: words [KILOBYTES | -]
#include "text.h"

struct entry {
    const char *word;
    uint32_t letters;
    uint32_t hash;
    uint32_t count;
};

// Open addressing with linear probing; never more than half full.
struct table {
    struct entry *entries;
    size_t room, used;
};

static bool same_word(const char *a, const char *b, size_t letters) {
    for (size_t i = 0; i < letters; i++)
        if ((a[i] | 0x20) != (b[i] | 0x20)) return false;
    return true;
}

static struct entry *find(const struct table *table, const char *word, uint32_t letters, uint32_t hash) {
    for (size_t at = hash & (table->room - 1);; at = (at + 1) & (table->room - 1)) {
        struct entry *entry = &table->entries[at];
        if (!entry->word) return entry;
        if (entry->hash == hash && entry->letters == letters && same_word(entry->word, word, letters)) return entry;
    }
}

static void grow(struct table *table) {
    struct table larger = {allocate(2 * table->room, sizeof(struct entry)), 2 * table->room, table->used};
    for (size_t i = 0; i < table->room; i++) {
        const struct entry *entry = &table->entries[i];
        if (entry->word) *find(&larger, entry->word, entry->letters, entry->hash) = *entry;
    }
    free(table->entries);
    *table = larger;
}

static void count(struct table *table, const char *word, uint32_t letters, uint32_t hash) {
    struct entry *entry = find(table, word, letters, hash);
    if (entry->word) {
        entry->count++;
        return;
    }
    *entry = (struct entry){word, letters, hash, 1};
    if (2 * ++table->used > table->room) grow(table);
}

static bool is_letter(char c) {
    return (unsigned char)((c | 0x20) - 'a') < 26;
}

// Descending by count, then ascending by word, so that no two are equal.
static int more_frequent(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    if (x->count != y->count) return x->count < y->count ? 1 : -1;
    uint32_t shorter = x->letters < y->letters ? x->letters : y->letters;
    for (uint32_t i = 0; i < shorter; i++) {
        int difference = (x->word[i] | 0x20) - (y->word[i] | 0x20);
        if (difference) return difference;
    }
    return x->letters < y->letters ? -1 : x->letters > y->letters;
}

int main(int argc, char **argv) {
    struct text text = text_argument(argc, argv, 256);
    struct table table = {allocate(256, sizeof(struct entry)), 256, 0};
    uint64_t words = 0, lines = 0;
    for (size_t at = 0; at < text.len;) {
        if (!is_letter(text.bytes[at])) {
            lines += text.bytes[at++] == '\n';
            continue;
        }
        size_t begin = at;
        uint32_t hash = 2166136261;
        for (; at < text.len && is_letter(text.bytes[at]); at++)
            hash = (hash ^ (uint8_t)(text.bytes[at] | 0x20)) * 16777619;
        count(&table, text.bytes + begin, (uint32_t)(at - begin), hash ^ hash >> 15);
        words++;
    }

    size_t different = 0;
    for (size_t i = 0; i < table.room; i++)
        if (table.entries[i].word) table.entries[different++] = table.entries[i];
    qsort(table.entries, different, sizeof(struct entry), more_frequent);
    printf("%zu bytes, %" PRIu64 " lines, %" PRIu64 " words, %zu different\n", text.len, lines, words, different);
    for (size_t i = 0; i < different; i++) {
        const struct entry *entry = &table.entries[i];
        if (i < 10) printf("%8" PRIu32 " %.*s\n", entry->count, (int)entry->letters, entry->word);
        absorb(entry->word, entry->letters);
        absorb_u64(entry->count);
    }
    return print_digest();
}
