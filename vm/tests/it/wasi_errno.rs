//! Error numbers of WASI preview1.

macro_rules! errno {
    ($($name:ident = $number:literal)*) => {
        $(pub(crate) const $name: i32 = $number;)*
    };
}

errno! {
    SUCCESS = 0
    EBADF = 8
    EBUSY = 10
    EEXIST = 20
    EFAULT = 21
    EFBIG = 22
    EILSEQ = 25
    EINVAL = 28
    EISDIR = 31
    ELOOP = 32
    EMFILE = 33
    ENAMETOOLONG = 37
    ENOENT = 44
    ENOMEM = 48
    ENOSPC = 51
    ENOTDIR = 54
    ENOTEMPTY = 55
    ENOTSOCK = 57
    ENOTSUP = 58
    EPERM = 63
    EROFS = 69
    ESPIPE = 70
    EXDEV = 75
    ENOTCAPABLE = 76
}
