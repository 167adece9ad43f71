// Waiting. Nothing ever happens in a task but what it does itself, so that waiting is letting its clocks advance.
#include "descriptors.h"
#include "guest.h"
#include "task.h"

enum event_type { EVENT_CLOCK = 0, EVENT_READ = 1, EVENT_WRITE = 2 };
enum { CLOCK_ABSOLUTE = 1 };
enum { SUBSCRIPTION = 48, EVENT = 32 };

struct subscription {
    u64 user;
    u32 type;
    u32 subject;  // clock or descriptor
};

static struct subscription subscription_at(u32 at) {
    return (struct subscription){guest_load64(at), guest_load8(at + 8), guest_load32(at + 16)};
}

// How long a clock's subscription has to wait from now, in nanoseconds.
static errno_t wait_of(u32 at, u32 clock, u64 *wait) {
    u64 now, timeout = guest_load64(at + 24);
    errno_t error = clock_read(clock, &now);
    if (error) {
        return error;
    }
    bool absolute = guest_load32(at + 40) & CLOCK_ABSOLUTE;
    *wait = !absolute ? timeout : timeout > now ? timeout - now : 0;
    return SUCCESS;
}

static void give_event(u32 to, const struct subscription *subscription, errno_t error, u64 bytes) {
    guest_fill(to, 0, EVENT);
    guest_store64(to, subscription->user);
    guest_store16(to + 8, error);
    guest_store8(to + 10, subscription->type);
    guest_store64(to + 16, bytes);
}

// A descriptor is always ready. Answers how many bytes can be read, or written without limit.
static errno_t ready(const struct subscription *subscription, u64 *bytes) {
    const struct descriptor *descriptor = descriptor_at(subscription->subject);
    if (!descriptor) {
        return EBADF;
    }
    if (subscription->type == EVENT_WRITE) {
        *bytes = 65536;
    } else if (descriptor->stream == STREAM_INPUT) {
        *bytes = stream_left(descriptor->position);
    } else if (descriptor->node && descriptor->node->size > descriptor->position) {
        *bytes = descriptor->node->size - descriptor->position;
    }
    return SUCCESS;
}

WASI(poll_oneoff)(u32 from, u32 to, u32 count, u32 events_at) {
    if (count == 0) {
        return EINVAL;
    }
    if (!guest_has(from, (u64)count * SUBSCRIPTION) || !guest_has(to, (u64)count * EVENT) || !guest_has(events_at, 4)) {
        return EFAULT;
    }
    // Until the first event: at once for whatever is no clock.
    u64 shortest = UINT64_MAX;
    for (u32 i = 0; i < count; i++) {
        struct subscription subscription = subscription_at(from + i * SUBSCRIPTION);
        if (subscription.type > EVENT_WRITE) {
            return EINVAL;
        }
        u64 wait = 0;
        if (subscription.type == EVENT_CLOCK) {
            wait_of(from + i * SUBSCRIPTION, subscription.subject, &wait);
        }
        shortest = wait < shortest ? wait : shortest;
    }
    u32 events = 0;
    for (u32 i = 0; i < count; i++) {
        struct subscription subscription = subscription_at(from + i * SUBSCRIPTION);
        u64 wait = 0, bytes = 0;
        errno_t error = subscription.type == EVENT_CLOCK
                            ? wait_of(from + i * SUBSCRIPTION, subscription.subject, &wait)
                            : ready(&subscription, &bytes);
        if (error || wait <= shortest) {
            give_event(to + events++ * EVENT, &subscription, error, bytes);
        }
    }
    clock_advance(shortest);
    guest_store32(events_at, events);
    return SUCCESS;
}
