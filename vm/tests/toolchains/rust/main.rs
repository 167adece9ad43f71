//! What a task offers, as Rust's standard library sees it. See ../README.md for what is printed.

use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const EROFS: i32 = 69;

fn yes(claim: bool) -> &'static str {
    if claim {
        "yes"
    } else {
        "no"
    }
}

/// The year of a day after 1970-01-01.
fn year(mut day: u64) -> u64 {
    let mut year = 1970;
    loop {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        match day.checked_sub(if leap { 366 } else { 365 }) {
            Some(rest) => day = rest,
            None => return year,
        }
        year += 1;
    }
}

fn main() -> io::Result<()> {
    print!("args:");
    for arg in std::env::args() {
        print!(" {}", arg);
    }
    println!("\nMODE={}", std::env::var("MODE").unwrap());

    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    println!("stdin: {} lines, {} bytes", text.lines().count(), text.len());

    let entries = fs::read_dir("data")?.collect::<io::Result<Vec<_>>>()?;
    let mut names: Vec<_> = entries.iter().map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    println!("data: {}", names.join(" "));
    let mut sum = 0;
    for name in &names {
        for line in fs::read_to_string(format!("/data/{}", name))?.lines() {
            sum += line.parse::<i64>().unwrap();
        }
    }
    println!("sum: {}", sum);

    let missing = File::open("data/missing.txt").unwrap_err();
    println!("missing: {}", yes(missing.kind() == ErrorKind::NotFound));
    let refused = File::create("data/a.txt").unwrap_err();
    println!("read-only: {}", yes(refused.raw_os_error() == Some(EROFS)));

    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    println!("year: {}", year(since_1970.as_secs() / 86_400));
    let before = Instant::now();
    std::thread::sleep(Duration::from_secs(1000));
    println!("time passes: {}", yes(before.elapsed() >= Duration::from_secs(1000)));
    let draw = || RandomState::new().build_hasher().finish();
    println!("random: {}", yes(draw() != draw()));

    fs::write("/out/report.txt", format!("sum {}\n", sum))?;
    OpenOptions::new().append(true).open("out/report.txt")?.write_all(b"appended\n")?;
    fs::create_dir_all("out/sub")?;
    fs::copy("data/b.txt", "tmp/copy")?;
    fs::rename("tmp/copy", "out/sub/copy.txt")?;
    File::create("out/scratch")?;
    fs::remove_file("out/scratch")?;
    println!("copied: {} bytes", fs::metadata("out/sub/copy.txt")?.len());

    eprintln!("done");
    std::process::exit(3)
}
