#include "stat.h"

#include "guest.h"
#include "task.h"

// Device numbers: what came with the input is read-only, as if it were mounted. A link between the two is refused.
enum { DEVICE_OWN = 1, DEVICE_INPUT = 2 };

errno_t stat_give(const struct node *node, u32 to) {
    if (!guest_has(to, 64)) {
        return EFAULT;
    }
    guest_fill(to, 0, 64);
    if (node) {
        guest_store64(to, node->frozen ? DEVICE_INPUT : DEVICE_OWN);
        guest_store64(to + 8, node->serial);
        guest_store8(to + 16, node->type);
        guest_store64(to + 24, node->links);
        guest_store64(to + 32, node->size);
        guest_store64(to + 40, node->atim);
        guest_store64(to + 48, node->mtim);
        guest_store64(to + 56, node->ctim);
    }
    return SUCCESS;
}

errno_t stat_set_times(struct node *node, u64 atim, u64 mtim, u32 flags) {
    bool both_atim = (flags & SET_ATIM) && (flags & SET_ATIM_NOW);
    bool both_mtim = (flags & SET_MTIM) && (flags & SET_MTIM_NOW);
    if (flags > 15 || both_atim || both_mtim) {
        return EINVAL;
    }
    if (node->frozen) {
        return EROFS;
    }
    u64 now = clock_now();
    if (flags & (SET_ATIM | SET_ATIM_NOW)) {
        node->atim = flags & SET_ATIM ? atim : now;
    }
    if (flags & (SET_MTIM | SET_MTIM_NOW)) {
        node->mtim = flags & SET_MTIM ? mtim : now;
    }
    node->ctim = now;
    return SUCCESS;
}
