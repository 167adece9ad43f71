//! What a task offers, as Zig's standard library sees it, without C's. See ../README.md for what is printed.

const std = @import("std");
const Io = std.Io;

fn yes(claim: bool) []const u8 {
    return if (claim) "yes" else "no";
}

fn before(_: void, a: []const u8, b: []const u8) bool {
    return std.mem.order(u8, a, b) == .lt;
}

pub fn main(init: std.process.Init) !void {
    const io = init.io;
    const arena = init.arena.allocator();
    var buffer: [1024]u8 = undefined;
    var stdout_file = Io.File.stdout().writerStreaming(io, &buffer);
    const stdout = &stdout_file.interface;

    try stdout.writeAll("args:");
    for (try init.minimal.args.toSlice(arena)) |arg| try stdout.print(" {s}", .{arg});
    try stdout.print("\nMODE={s}\n", .{init.environ_map.get("MODE").?});

    var input_buffer: [64]u8 = undefined;
    var stdin = Io.File.stdin().readerStreaming(io, &input_buffer);
    const text = try stdin.interface.allocRemaining(arena, .unlimited);
    try stdout.print("stdin: {d} lines, {d} bytes\n", .{ std.mem.count(u8, text, "\n"), text.len });

    const root = Io.Dir.cwd();
    var data = try root.openDir(io, "data", .{ .iterate = true });
    var names: std.ArrayList([]const u8) = .empty;
    var entries = data.iterate();
    while (try entries.next(io)) |entry| try names.append(arena, try arena.dupe(u8, entry.name));
    std.mem.sort([]const u8, names.items, {}, before);
    try stdout.writeAll("data:");
    var sum: i64 = 0;
    for (names.items) |name| {
        try stdout.print(" {s}", .{name});
        const content = try data.readFileAlloc(io, name, arena, .unlimited);
        var lines = std.mem.tokenizeScalar(u8, content, '\n');
        while (lines.next()) |line| sum += try std.fmt.parseInt(i64, line, 10);
    }
    data.close(io);
    try stdout.print("\nsum: {d}\n", .{sum});

    const missing = if (root.openFile(io, "data/missing.txt", .{})) |_| false else |err| err == error.FileNotFound;
    try stdout.print("missing: {s}\n", .{yes(missing)});
    const refused = if (root.deleteFile(io, "data/a.txt")) |_| false else |err| err == error.ReadOnlyFileSystem;
    try stdout.print("read-only: {s}\n", .{yes(refused)});

    const now = Io.Clock.now(.real, io).toSeconds();
    const day = std.time.epoch.EpochSeconds{ .secs = @intCast(now) };
    try stdout.print("year: {d}\n", .{day.getEpochDay().calculateYearDay().year});
    const start = Io.Clock.now(.awake, io);
    try io.sleep(.fromSeconds(1000), .awake);
    const passed = start.durationTo(Io.Clock.now(.awake, io));
    try stdout.print("time passes: {s}\n", .{yes(passed.toSeconds() >= 1000)});
    var a: [8]u8 = undefined;
    var b: [8]u8 = undefined;
    try io.randomSecure(&a);
    try io.randomSecure(&b);
    try stdout.print("random: {s}\n", .{yes(!std.mem.eql(u8, &a, &b))});

    var report: Io.Writer.Allocating = .init(arena);
    try report.writer.print("sum {d}\n", .{sum});
    try root.writeFile(io, .{ .sub_path = "out/report.txt", .data = report.written() });
    const file = try root.openFile(io, "out/report.txt", .{ .mode = .write_only });
    try file.writePositionalAll(io, "appended\n", try file.length(io));
    file.close(io);
    try root.createDirPath(io, "out/sub");
    try root.copyFile("data/b.txt", root, "tmp/copy", io, .{});
    try root.rename("tmp/copy", root, "out/sub/copy.txt", io);
    (try root.createFile(io, "out/scratch", .{})).close(io);
    try root.deleteFile(io, "out/scratch");
    const copied = try root.statFile(io, "out/sub/copy.txt", .{});
    try stdout.print("copied: {d} bytes\n", .{copied.size});
    try stdout.flush();

    std.debug.print("done\n", .{});
    std.process.exit(3);
}
