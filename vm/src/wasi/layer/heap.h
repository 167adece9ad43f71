// The layer's own memory beyond its static data.
#pragma once

#include "wasi.h"

// Memory for `size` bytes, aligned to 16, all zero; NULL when the task may not have more. The size is not kept: whoever
// frees says it again.
void *heap_take(u32 size);

void heap_free(void *block, u32 size);

// The first `used` of `from` bytes in a block of `to` bytes, the rest zero. The old block stays when the answer is NULL.
void *heap_resize(void *block, u32 used, u32 from, u32 to);
