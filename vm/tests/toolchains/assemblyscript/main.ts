// What a task offers, as AssemblyScript sees it through @assemblyscript/wasi-shim. See ../README.md for what is printed.
// The shim has no files: those are calls of WASI itself, through the shim's declarations.
import {
  errno, fd_close, filestat, fd_read, fd_readdir, fd_write, lookupflags, oflags, path_create_directory, path_filestat_get,
  path_open, path_rename, path_unlink_file, rights, fdflags
} from "../../node_modules/@assemblyscript/wasi-shim/assembly/bindings/wasi_snapshot_preview1";

const ROOT: u32 = 3;
const scratch = memory.data(64);

function yes(claim: bool): string {
  return claim ? "yes" : "no";
}

function open(path: string, how: u16, right: u64, flags: u16 = 0): i32 {
  const name = String.UTF8.encode(path);
  const error = path_open(ROOT, lookupflags.SYMLINK_FOLLOW, changetype<usize>(name), name.byteLength, how, right, 0, flags, scratch);
  return error ? -(<i32>error) : load<i32>(scratch);
}

function readAll(fd: i32): string {
  const buffer = new ArrayBuffer(4096);
  let text = "";
  for (;;) {
    store<usize>(scratch, changetype<usize>(buffer));
    store<usize>(scratch, 4096, 4);
    fd_read(fd, scratch, 1, scratch + 8);
    const len = load<u32>(scratch, 8);
    if (!len) break;
    text += String.UTF8.decodeUnsafe(changetype<usize>(buffer), len);
  }
  if (fd > 3) fd_close(fd);
  return text;
}

function writeAll(path: string, how: u16, flags: u16, text: string): void {
  const fd = open(path, how, rights.FD_WRITE, flags);
  const bytes = String.UTF8.encode(text);
  store<usize>(scratch, changetype<usize>(bytes));
  store<usize>(scratch, bytes.byteLength, 4);
  fd_write(fd, scratch, 1, scratch + 8);
  fd_close(fd);
}

function list(path: string): string[] {
  const fd = open(path, oflags.DIRECTORY, rights.FD_READDIR);
  const buffer = new ArrayBuffer(4096);
  const begin = changetype<usize>(buffer);
  fd_readdir(fd, begin, 4096, 0, scratch);
  fd_close(fd);
  const names: string[] = [];
  for (let at: usize = 0; at < load<usize>(scratch);) {
    const len = load<u32>(begin + at, 16);
    const name = String.UTF8.decodeUnsafe(begin + at + 24, len);
    if (!name.startsWith(".")) names.push(name);
    at += 24 + len;
  }
  return names.sort();
}

function bytes(path: string): ArrayBuffer {
  return String.UTF8.encode(path);
}

console.log("args: " + process.argv.join(" "));
console.log("MODE=" + process.env.get("MODE"));

const text = readAll(0);
console.log("stdin: " + (text.split("\n").length - 1).toString() + " lines, " + String.UTF8.byteLength(text).toString() + " bytes");

const names = list("data");
console.log("data: " + names.join(" "));
let sum: i64 = 0;
for (let i = 0; i < names.length; i++) {
  const lines = readAll(open("data/" + names[i], 0, rights.FD_READ)).trim().split("\n");
  for (let j = 0; j < lines.length; j++) sum += I64.parseInt(lines[j]);
}
console.log("sum: " + sum.toString());

console.log("missing: " + yes(open("data/missing.txt", 0, rights.FD_READ) == -(<i32>errno.NOENT)));
console.log("read-only: " + yes(open("data/a.txt", oflags.TRUNC, rights.FD_WRITE) == -(<i32>errno.ROFS)));

console.log("year: " + new Date(Date.now()).getUTCFullYear().toString());
const before = performance.now();
console.log("time passes: " + yes(performance.now() > before));
const a = new Uint8Array(8), b = new Uint8Array(8);
crypto.getRandomValues(a);
crypto.getRandomValues(b);
console.log("random: " + yes(a.toString() != b.toString() && Math.random() != Math.random()));

writeAll("out/report.txt", oflags.CREAT | oflags.TRUNC, 0, "sum " + sum.toString() + "\n");
writeAll("out/report.txt", 0, fdflags.APPEND, "appended\n");
const sub = bytes("out/sub");
path_create_directory(ROOT, changetype<usize>(sub), sub.byteLength);
writeAll("tmp/copy", oflags.CREAT, 0, readAll(open("data/b.txt", 0, rights.FD_READ)));
const from = bytes("tmp/copy"), to = bytes("out/sub/copy.txt");
path_rename(ROOT, changetype<usize>(from), from.byteLength, ROOT, changetype<usize>(to), to.byteLength);
writeAll("out/scratch", oflags.CREAT, 0, "");
const gone = bytes("out/scratch");
path_unlink_file(ROOT, changetype<usize>(gone), gone.byteLength);
path_filestat_get(ROOT, 0, changetype<usize>(to), to.byteLength, changetype<filestat>(scratch));
console.log("copied: " + load<u64>(scratch, 32).toString() + " bytes");

process.stderr.write("done\n"); // `console.error` of the shim writes to standard output
process.exit(3);
