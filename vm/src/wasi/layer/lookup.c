#include "lookup.h"

#include "descriptors.h"
#include "guest.h"
#include "task.h"

// As many links as Linux follows in one path.
#define LINKS_MAX 40u

// Whether the bytes are UTF-8, as all texts of WASI: no overlong forms, no surrogates, nothing above U+10FFFF.
static bool is_utf8(const u8 *bytes, u32 len) {
    for (u32 i = 0; i < len;) {
        u8 byte = bytes[i++];
        if (byte < 0x80) {
            continue;
        }
        u32 more = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : 1;
        if (byte < 0xc2 || byte > 0xf4 || more > len - i) {
            return false;
        }
        u8 low = byte == 0xe0 ? 0xa0 : byte == 0xf0 ? 0x90 : 0x80;
        u8 high = byte == 0xed ? 0x9f : byte == 0xf4 ? 0x8f : 0xbf;
        for (; more > 0; more--, i++, low = 0x80, high = 0xbf) {
            if (bytes[i] < low || bytes[i] > high) {
                return false;
            }
        }
    }
    return true;
}

errno_t path_take(enum path_buffer buffer, u32 at, u32 len, const u8 **path) {
    static u8 buffers[2][PATH_MAX];
    if (!guest_has(at, len)) {
        return EFAULT;
    }
    if (len == 0) {
        return ENOENT;
    }
    if (len >= PATH_MAX) {
        return ENAMETOOLONG;
    }
    u8 *bytes = buffers[buffer];
    guest_copy_in(bytes, at, len);
    for (u32 i = 0; i < len; i++) {
        if (bytes[i] == 0) {
            return EINVAL;
        }
    }
    *path = bytes;
    return is_utf8(bytes, len) ? SUCCESS : EILSEQ;
}

// What is left to follow: a path, and on top of it the targets of links in it.
struct rest {
    struct {
        const u8 *at, *end;
    } texts[LINKS_MAX + 1];
    u32 top;
};

static bool skip_slashes(struct rest *rest) {
    bool any = false;
    for (; rest->texts[rest->top].at < rest->texts[rest->top].end && *rest->texts[rest->top].at == '/'; any = true) {
        rest->texts[rest->top].at++;
    }
    return any;
}

// Goes behind slashes and texts that are used up. Answers whether there is another name, and whether slashes were there.
static bool more(struct rest *rest, bool *slash) {
    for (;;) {
        *slash |= skip_slashes(rest);
        if (rest->texts[rest->top].at < rest->texts[rest->top].end) {
            return true;
        }
        if (rest->top == 0) {
            return false;
        }
        rest->top--;
    }
}

static u32 take_name(struct rest *rest, const u8 **name) {
    const u8 *at = *name = rest->texts[rest->top].at;
    while (at < rest->texts[rest->top].end && *at != '/') {
        at++;
    }
    rest->texts[rest->top].at = at;
    return (u32)(at - *name);
}

static errno_t follow_path(struct node *start, enum at_end at_end, const u8 *path, u32 len, struct place *place) {
    struct rest rest;
    rest.top = 0;
    rest.texts[0].at = path;
    rest.texts[0].end = path + len;
    struct node *current = start;
    u32 links = 0;
    bool slash = false;       // behind the name that was read
    bool only_dir = false;  // the path ended in a slash, also before a link was followed
    *place = (struct place){0};
    if (*path == '/') {
        return ENOTCAPABLE;
    }
    while (more(&rest, &slash)) {
        const u8 *name;
        u32 name_len = take_name(&rest, &name);
        if (name_len == 1 && name[0] == '.') {
            continue;
        }
        if (name_len == 2 && name[0] == '.' && name[1] == '.') {
            if (current == start) {
                return ENOTCAPABLE;
            }
            current = current->directory.parent;
            continue;
        }
        if (name_len > NAME_MAX) {
            return ENAMETOOLONG;
        }
        slash = false;
        bool last = !more(&rest, &slash);
        only_dir |= last && slash;
        struct entry *entry = entry_find(current, name, name_len);
        struct node *node = entry ? entry->node : NULL;
        bool follow = !last || at_end == FOLLOWED || (only_dir && at_end == NOT_FOLLOWED);
        if (node && node->type == TYPE_LINK && follow) {
            if (++links > LINKS_MAX) {
                return ELOOP;
            }
            if (node->target[0] == '/') {
                return ENOTCAPABLE;
            }
            rest.top += !last;
            rest.texts[rest.top].at = node->target;
            rest.texts[rest.top].end = node->target + node->size;
            continue;
        }
        if (last) {
            *place = (struct place){current, entry, node, name, name_len, only_dir};
            return only_dir && node && node->type != TYPE_DIRECTORY && at_end != NAME_ONLY ? ENOTDIR : SUCCESS;
        }
        if (!node) {
            return ENOENT;
        }
        if (node->type != TYPE_DIRECTORY) {
            return ENOTDIR;
        }
        current = node;
    }
    place->node = current;
    return SUCCESS;
}

errno_t path_find(u32 fd, enum at_end at_end, enum path_buffer buffer, u32 at, u32 len, struct place *place) {
    struct node *start;
    const u8 *path;
    errno_t error = directory_at(fd, &start);
    if (error || (error = path_take(buffer, at, len, &path))) {
        return error;
    }
    return follow_path(start, at_end, path, len, place);
}
