// The functions that take a path.
#include "content.h"
#include "descriptors.h"
#include "guest.h"
#include "heap.h"
#include "lookup.h"
#include "stat.h"
#include "task.h"

static enum at_end followed(u32 lookup) {
    return lookup & LOOKUP_FOLLOW ? FOLLOWED : NOT_FOLLOWED;
}

// Whether a place is free for a new name. `for_directory`: whether what gets the name is one.
static errno_t vacant(const struct place *place, bool for_directory) {
    if (place->node) {
        return EEXIST;
    }
    if (place->slash && !for_directory) {
        return ENOENT;
    }
    if (place->parent->frozen) {
        return EROFS;
    }
    return place->parent->links ? SUCCESS : ENOENT; // none in a directory that was removed
}

// Whether a name can be taken away.
static errno_t removable(const struct place *place) {
    if (!place->node) {
        return ENOENT;
    }
    if (!place->parent) {
        return EINVAL; // `.` and `..` are not taken away
    }
    return place->node->frozen || place->parent->frozen ? EROFS : SUCCESS;
}

// Gives a new node its name; frees it if there is no memory for that.
static errno_t name_node(const struct place *place, struct node *node) {
    if (!node) {
        return ENOSPC;
    }
    if (!entry_add(place->parent, place->name, place->len, node)) {
        node_drop(node);
        return ENOSPC;
    }
    return SUCCESS;
}

static errno_t open_new(struct place *place, u32 oflags) {
    if (!(oflags & OPEN_CREATE)) {
        return ENOENT;
    }
    if (oflags & OPEN_DIRECTORY) {
        return EINVAL;
    }
    errno_t error = vacant(place, false);
    return error ? error : name_node(place, place->node = node_new(TYPE_FILE));
}

static errno_t open_old(struct node *node, u32 oflags, u64 rights) {
    bool write = (rights & RIGHT_WRITE) || (oflags & OPEN_TRUNCATE);
    if ((oflags & OPEN_CREATE) && (oflags & OPEN_EXCLUSIVE)) {
        return EEXIST;
    }
    if (node->type == TYPE_LINK) {
        return ELOOP;
    }
    if (node->type == TYPE_DIRECTORY) {
        // Some libraries ask for every right when they open a directory as one.
        return (oflags & OPEN_CREATE) || (write && !(oflags & OPEN_DIRECTORY)) ? EISDIR : SUCCESS;
    }
    if (oflags & OPEN_DIRECTORY) {
        return ENOTDIR;
    }
    if (write && node->frozen) {
        return EROFS;
    }
    return oflags & OPEN_TRUNCATE ? content_resize(node, 0) : SUCCESS;
}

WASI(path_open)
(u32 fd, u32 lookup, u32 at, u32 len, u32 oflags, u64 rights, u64 inheriting, u32 flags, u32 opened_at) {
    if (!guest_has(opened_at, 4)) {
        return EFAULT;
    }
    if (oflags > 15 || flags & ~FLAGS_ALL) {
        return EINVAL;
    }
    bool exclusive = (oflags & OPEN_CREATE) && (oflags & OPEN_EXCLUSIVE);
    enum at_end at_end = exclusive ? NAME_ONLY : followed(lookup);
    struct place place;
    u32 opened;
    errno_t error = path_find(fd, at_end, PATH_FIRST, at, len, &place);
    if (error || (error = descriptor_free(&opened))) {
        return error;
    }
    if ((oflags & OPEN_CREATE) && place.slash) {
        return EISDIR;
    }
    error = place.node ? open_old(place.node, oflags, rights) : open_new(&place, oflags);
    if (error) {
        return error;
    }
    u64 possible = place.node->type == TYPE_DIRECTORY ? RIGHTS_DIRECTORY : RIGHTS_FILE;
    descriptor_open(opened, place.node, (u16)flags, rights & possible, inheriting);
    guest_store32(opened_at, opened);
    return SUCCESS;
}

WASI(path_create_directory)(u32 fd, u32 at, u32 len) {
    struct place place;
    errno_t error = path_find(fd, NAME_ONLY, PATH_FIRST, at, len, &place);
    if (error || (error = vacant(&place, true))) {
        return error;
    }
    struct node *node = node_new(TYPE_DIRECTORY);
    error = name_node(&place, node);
    if (!error) {
        node->directory.parent = place.parent;
    }
    return error;
}

WASI(path_filestat_get)(u32 fd, u32 lookup, u32 at, u32 len, u32 to) {
    struct place place;
    errno_t error = path_find(fd, followed(lookup), PATH_FIRST, at, len, &place);
    if (error) {
        return error;
    }
    return place.node ? stat_give(place.node, to) : ENOENT;
}

WASI(path_filestat_set_times)(u32 fd, u32 lookup, u32 at, u32 len, u64 atim, u64 mtim, u32 flags) {
    struct place place;
    errno_t error = path_find(fd, followed(lookup), PATH_FIRST, at, len, &place);
    if (error) {
        return error;
    }
    return place.node ? stat_set_times(place.node, atim, mtim, flags) : ENOENT;
}

WASI(path_link)(u32 old_fd, u32 lookup, u32 old_at, u32 old_len, u32 fd, u32 at, u32 len) {
    struct place old, place;
    errno_t error = path_find(old_fd, followed(lookup), PATH_FIRST, old_at, old_len, &old);
    if (error) {
        return error;
    }
    if (!old.node) {
        return ENOENT;
    }
    if ((error = path_find(fd, NAME_ONLY, PATH_SECOND, at, len, &place))) {
        return error;
    }
    if ((error = vacant(&place, false))) {
        return error;
    }
    if (old.node->type == TYPE_DIRECTORY) {
        return EPERM;
    }
    if (old.node->frozen) {
        return EXDEV;
    }
    old.node->ctim = clock_now();
    return entry_add(place.parent, place.name, place.len, old.node) ? SUCCESS : ENOSPC;
}

WASI(path_symlink)(u32 target_at, u32 target_len, u32 fd, u32 at, u32 len) {
    const u8 *target;
    struct place place;
    errno_t error = path_take(PATH_FIRST, target_at, target_len, &target);
    if (error || (error = path_find(fd, NAME_ONLY, PATH_SECOND, at, len, &place))) {
        return error;
    }
    if (*target == '/') {
        return ENOTCAPABLE; // no look-up begins at the root, but at a descriptor
    }
    if ((error = vacant(&place, false))) {
        return error;
    }
    u8 *kept = heap_take(target_len);
    struct node *node = kept ? node_new(TYPE_LINK) : NULL;
    if (!node) {
        heap_free(kept, target_len);
        return ENOSPC;
    }
    __builtin_memcpy(kept, target, target_len);
    node->target = kept;
    node->size = target_len;
    return name_node(&place, node);
}

WASI(path_readlink)(u32 fd, u32 at, u32 len, u32 to, u32 to_len, u32 used_at) {
    struct place place;
    errno_t error = path_find(fd, NOT_FOLLOWED, PATH_FIRST, at, len, &place);
    if (error) {
        return error;
    }
    if (!place.node) {
        return ENOENT;
    }
    if (place.node->type != TYPE_LINK) {
        return EINVAL;
    }
    if (!guest_has(to, to_len) || !guest_has(used_at, 4)) {
        return EFAULT;
    }
    u32 used = min(place.node->size, to_len);
    guest_copy_out(to, place.node->target, used);
    guest_store32(used_at, used);
    return SUCCESS;
}

WASI(path_unlink_file)(u32 fd, u32 at, u32 len) {
    struct place place;
    errno_t error = path_find(fd, NAME_ONLY, PATH_FIRST, at, len, &place);
    if (error) {
        return error;
    }
    if (place.node && place.node->type == TYPE_DIRECTORY) {
        return EISDIR;
    }
    error = place.node && place.slash ? ENOTDIR : removable(&place);
    if (!error) {
        entry_remove(place.entry);
    }
    return error;
}

WASI(path_remove_directory)(u32 fd, u32 at, u32 len) {
    struct place place;
    errno_t error = path_find(fd, NAME_ONLY, PATH_FIRST, at, len, &place);
    if (error) {
        return error;
    }
    if (place.node && place.node->type != TYPE_DIRECTORY) {
        return ENOTDIR;
    }
    if ((error = removable(&place))) {
        return error;
    }
    if (place.node->directory.count) {
        return ENOTEMPTY;
    }
    place.node->directory.parent = NULL;
    entry_remove(place.entry);
    return SUCCESS;
}

// Whether a directory is another node or inside it.
static bool inside(const struct node *directory, const struct node *above) {
    for (; directory; directory = directory->directory.parent) {
        if (directory == above) {
            return true;
        }
    }
    return false;
}

// Whether `node` may take the place of what has the name now.
static errno_t replaceable(const struct node *node, const struct place *place) {
    bool directory = node->type == TYPE_DIRECTORY;
    if (place->node->type != TYPE_DIRECTORY) {
        return directory ? ENOTDIR : SUCCESS;
    }
    if (!directory) {
        return EISDIR;
    }
    return place->node->directory.count ? ENOTEMPTY : SUCCESS;
}

WASI(path_rename)(u32 old_fd, u32 old_at, u32 old_len, u32 fd, u32 at, u32 len) {
    struct place old, place;
    errno_t error = path_find(old_fd, NAME_ONLY, PATH_FIRST, old_at, old_len, &old);
    if (error || (error = path_find(fd, NAME_ONLY, PATH_SECOND, at, len, &place))) {
        return error;
    }
    if (!old.parent || !place.parent) {
        return EBUSY;
    }
    if ((error = removable(&old))) {
        return error;
    }
    bool directory = old.node->type == TYPE_DIRECTORY;
    if (!directory && (old.slash || place.slash)) {
        return ENOTDIR;
    }
    if (inside(place.parent, old.node)) {
        return EINVAL; // a directory into itself
    }
    if (inside(old.parent, place.node)) {
        return ENOTEMPTY;
    }
    if (place.node == old.node) {
        return SUCCESS; // two names of one file stay, as POSIX has it
    }
    if (place.node) {
        if ((error = removable(&place)) || (error = replaceable(old.node, &place))) {
            return error;
        }
    } else if ((error = vacant(&place, directory))) {
        return error;
    }
    if (place.node) {
        if (place.node->type == TYPE_DIRECTORY) {
            place.node->directory.parent = NULL;
        }
        entry_remove(place.entry); // makes room, so that the next step cannot fail
    }
    if (!entry_add(place.parent, place.name, place.len, old.node)) {
        return ENOSPC;
    }
    if (directory) {
        old.node->directory.parent = place.parent;
    }
    entry_remove(old.entry);
    return SUCCESS;
}

// Writes an entry of a directory as far as there is room; answers how many bytes that were.
static u32 give_entry(u32 to, u32 room, u64 next, const struct node *node, const u8 *name, u32 len) {
    struct {
        u64 next, serial;
        u32 len;
        u8 type, padding[3];
    } entry = {next, node->serial, len, node->type, {0}};
    u32 head = min(sizeof entry, room), tail = min(len, room - head);
    guest_copy_out(to, &entry, head);
    guest_copy_out(to + head, name, tail);
    return head + tail;
}

// Cookies: 0 for `.`, 1 for `..`, then the slots. An entry keeps its slot as long as it has its name, so that reading goes
// on where it was whatever is made or removed in between.
WASI(fd_readdir)(u32 fd, u32 to, u32 len, u64 cookie, u32 used_at) {
    struct node *directory;
    errno_t error = directory_at(fd, &directory);
    if (error) {
        return error;
    }
    if (!guest_has(to, len) || !guest_has(used_at, 4)) {
        return EFAULT;
    }
    u32 used = 0;
    for (; cookie < 2 && used < len; cookie++) {
        struct node *parent = directory->directory.parent;
        struct node *node = cookie == 0 || !parent ? directory : parent;
        used += give_entry(to + used, len - used, cookie + 1, node, (const u8 *)"..", (u32)cookie + 1);
    }
    for (u32 slot = min(cookie - 2, UINT32_MAX); used < len; slot++) {
        struct entry *entry = entry_at(directory, &slot);
        if (!entry) {
            break;
        }
        used += give_entry(to + used, len - used, (u64)slot + 3, entry->node, entry->name, entry->len);
    }
    guest_store32(used_at, used);
    return SUCCESS;
}
