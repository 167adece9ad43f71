// Builds, searches and takes apart balanced trees (AA trees, Andersson 1993): memory in small pieces, pointers, recursion.
// usage: trees [KEYS]
#include "common.h"

struct node {
    uint32_t key;
    uint32_t level;
    struct node *left, *right;
};

static uint64_t allocated, released;

static uint32_t level(const struct node *node) {
    return node ? node->level : 0;
}

// A left child of the same level turns right.
static struct node *skew(struct node *node) {
    struct node *left = node->left;
    if (!left || left->level != node->level) return node;
    node->left = left->right;
    left->right = node;
    return left;
}

// Two right children of the same level: the middle one rises.
static struct node *split(struct node *node) {
    struct node *right = node->right;
    if (!right || !right->right || right->right->level != node->level) return node;
    node->right = right->left;
    right->left = node;
    right->level++;
    return right;
}

static struct node *insert(struct node *node, uint32_t key) {
    if (!node) {
        allocated++;
        node = allocate(1, sizeof *node);
        node->key = key;
        node->level = 1;
        return node;
    }
    if (key < node->key) node->left = insert(node->left, key);
    else if (key > node->key) node->right = insert(node->right, key);
    else return node;
    return split(skew(node));
}

static struct node *rebalance(struct node *node) {
    uint32_t most = level(node->left) < level(node->right) ? level(node->left) + 1 : level(node->right) + 1;
    if (most < node->level) {
        node->level = most;
        if (node->right && most < node->right->level) node->right->level = most;
    }
    node = skew(node);
    if (node->right) {
        node->right = skew(node->right);
        if (node->right->right) node->right->right = skew(node->right->right);
    }
    node = split(node);
    if (node->right) node->right = split(node->right);
    return node;
}

static struct node *delete(struct node *node, uint32_t key) {
    if (!node) return NULL;
    if (key < node->key) {
        node->left = delete(node->left, key);
    } else if (key > node->key) {
        node->right = delete(node->right, key);
    } else if (!node->left || !node->right) {
        struct node *child = node->left ? node->left : node->right;
        free(node);
        released++;
        return child; // of level 1, if there is one: nothing to rebalance
    } else {
        const struct node *next = node->right;
        while (next->left) next = next->left;
        node->key = next->key;
        node->right = delete(node->right, next->key);
    }
    return rebalance(node);
}

static bool contains(const struct node *node, uint32_t key) {
    while (node && node->key != key) node = key < node->key ? node->left : node->right;
    return node;
}

// The height; order and levels are checked on the way.
static uint32_t check(const struct node *node, uint64_t least, uint64_t most) {
    if (!node) return 0;
    if (node->key < least || node->key > most) die("key %" PRIu32 " is out of order", node->key);
    if (level(node->left) + 1 != node->level || node->level - level(node->right) > 1) die("key %" PRIu32 " is unbalanced", node->key);
    absorb_u64(node->key);
    uint32_t left = check(node->left, least, (uint64_t)node->key - 1), right = check(node->right, (uint64_t)node->key + 1, most);
    return 1 + (left > right ? left : right);
}

static void release(struct node *node) {
    if (!node) return;
    release(node->left);
    release(node->right);
    free(node);
    released++;
}

int main(int argc, char **argv) {
    size_t keys = size_argument(argc, argv, 20000, 1 << 22);
    uint32_t bound = (uint32_t)keys * 2;
    struct node *tree = NULL;
    for (size_t i = 0; i < keys; i++) tree = insert(tree, 1 + random_below(bound));
    uint32_t height = check(tree, 1, bound);
    uint64_t found = 0;
    for (size_t i = 0; i < 2 * keys; i++) found += contains(tree, 1 + random_below(bound));
    for (size_t i = 0; i < keys / 2; i++) tree = delete(tree, 1 + random_below(bound));
    uint64_t left = allocated - released;
    uint32_t lower = check(tree, 1, bound);
    release(tree);
    if (allocated != released) die("%" PRIu64 " nodes allocated, %" PRIu64 " released", allocated, released);
    printf("%" PRIu64 " nodes, height %" PRIu32 "; %" PRIu64 " found; then %" PRIu64 " nodes, height %" PRIu32 "\n", allocated, height, found,
           left, lower);
    absorb_u64(found);
    return print_digest();
}
