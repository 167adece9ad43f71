//! The sensors, on computers made of files and on a system bus of their own.
#![cfg(target_os = "linux")]

use std::{
    collections::HashMap,
    fs::{self, File, FileTimes},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use conun_agent::fabric::{Readings, Sensors, linux::Computer};
use futures_util::StreamExt;
use tempfile::TempDir;
use zbus::{Connection, MessageStream, Variant, connection};

/// Puts the files of a fixture into a folder, over those that are there.
pub(crate) fn lay(fixture: &str, root: &Path) {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture), root);
}

/// An address at which no bus listens.
pub(crate) const NO_BUS: &str = "unix:path=/nonexistent/bus";

fn computer(root: &Path, bus: &str) -> Computer {
    Computer::at(root, root, 4711, Some(bus))
}

#[tokio::test]
async fn a_laptop_is_read() {
    let root = tempfile::tempdir().unwrap();
    lay("laptop", root.path());
    let mut laptop = computer(root.path(), NO_BUS);
    let first = laptop.read().await;
    assert_eq!(first.others_cpu_percent, None, "one reading is no rate");
    lay("laptop-10s-later", root.path());
    let then = laptop.read().await;
    assert_eq!(then.others_cpu_percent, Some(10), "400 of 4,000 ticks are others'");
    assert_eq!((then.on_battery, then.celsius), (Some(false), Some(53)), "the disk's 71 °C are its own affair");
    assert!(then.data_bytes.unwrap() > 0 && then.free_bytes.unwrap() > 0);
    assert_eq!((then.metered, then.idle_seconds), (None, None));

    lay("laptop-unplugged", root.path());
    assert_eq!(laptop.read().await.on_battery, Some(true));
    // Charged over USB-C instead.
    fs::write(root.path().join("sys/class/power_supply/ucsi-source-psy-USBC000/online"), "1\n").unwrap();
    assert_eq!(laptop.read().await.on_battery, Some(false));
}

#[tokio::test]
async fn a_desktop_has_no_battery_but_the_mouse_s_and_a_container_has_nothing() {
    let root = tempfile::tempdir().unwrap();
    lay("desktop", root.path());
    let read = computer(root.path(), NO_BUS).read().await;
    assert_eq!((read.on_battery, read.celsius), (Some(false), Some(61)));

    let empty = tempfile::tempdir().unwrap();
    let read = computer(empty.path(), NO_BUS).read().await;
    let disk = Readings { data_bytes: read.data_bytes, free_bytes: read.free_bytes, ..Readings::default() };
    assert_eq!(read, disk, "all but the disk is unknown");
}

/// A terminal that was typed at so long ago.
fn typed(dev: &Path, name: &str, seconds: u64) {
    let path = dev.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let at = SystemTime::now() - Duration::from_secs(seconds);
    File::create(path).unwrap().set_times(FileTimes::new().set_accessed(at).set_modified(SystemTime::now())).unwrap();
}

#[tokio::test]
async fn without_logind_the_terminals_tell_who_typed_last() {
    let root = tempfile::tempdir().unwrap();
    let dev = root.path().join("dev");
    typed(&dev, "tty1", 5_000);
    typed(&dev, "pts/3", 700);
    // Not terminals of anybody.
    for other in ["tty", "ttyS0", "pts/ptmx", "input/mouse0"] {
        typed(&dev, other, 1);
    }
    let mut computer = computer(root.path(), NO_BUS);
    let idle = computer.read().await.idle_seconds.unwrap();
    assert!((700..5_000).contains(&idle), "{idle}");
    typed(&dev, "input/event4", 20);
    let idle = computer.read().await.idle_seconds.unwrap();
    assert!((20..700).contains(&idle), "{idle}");
}

/// A bus of our own, ended with this.
struct Bus {
    daemon: Child,
    address: String,
    _folder: TempDir,
}

impl Bus {
    /// `None` where there is no `dbus-daemon`; that is said.
    fn start(test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("bus.conf");
        let socket = folder.path().join("socket");
        let text = format!(
            "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             <policy context='default'><allow user='*'/><allow own='*'/><allow send_type='method_call'/>\
             <allow send_destination='*'/><allow receive_sender='*'/></policy></busconfig>",
            socket.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("dbus-daemon");
        command.arg(format!("--config-file={}", config.display())).args(["--nofork", "--print-address"]);
        let mut daemon = match command.stdout(Stdio::piped()).spawn() {
            Ok(daemon) => daemon,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("NOT TESTED: {test}, because there is no dbus-daemon (Debian: apt-get install dbus-daemon)");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Some(Self { daemon, address: address.trim().to_owned(), _folder: folder })
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }
}

type Properties = HashMap<&'static str, Variant<'static>>;

/// What the stand-ins say: sessions by id and seat, and NetworkManager's `Metered`.
#[derive(Default)]
struct World {
    sessions: Vec<(&'static str, &'static str, Properties)>,
    metered: u32,
}

/// logind and NetworkManager, as far as they are asked, on a connection that owns both names.
async fn stand_in(address: &str, world: Arc<Mutex<World>>) -> Connection {
    let connection = connection::Builder::address(address).build().await.unwrap();
    for name in ["org.freedesktop.login1", "org.freedesktop.NetworkManager"] {
        connection.request_name(name).await.unwrap();
    }
    let mut calls = MessageStream::from(&connection);
    let answering = connection.clone();
    tokio::spawn(async move {
        while let Some(Ok(call)) = calls.next().await {
            if call.message_type() != zbus::message::Type::MethodCall {
                continue;
            }
            let header = call.header();
            let path = header.path().unwrap().to_string();
            let path_of = |id: &str| format!("/org/freedesktop/login1/session/_{id}");
            match header.member().unwrap().as_str() {
                "ListSessions" => {
                    assert_eq!(path, "/org/freedesktop/login1");
                    let listed: Vec<_> = {
                        let world = world.lock().unwrap();
                        let entry = |(id, seat, _): &(&'static str, &'static str, Properties)| {
                            let path = zbus::ObjectPath::try_from(path_of(id)).unwrap();
                            (id.to_string(), 1_000u32, "owner".to_owned(), seat.to_string(), path)
                        };
                        world.sessions.iter().map(entry).collect()
                    };
                    answering.reply(&header, &listed).await.unwrap();
                }
                "GetAll" => {
                    let interface: String = call.body().deserialize().unwrap();
                    let found = {
                        let world = world.lock().unwrap();
                        match interface.as_str() {
                            "org.freedesktop.NetworkManager" => {
                                Some(Properties::from([("Metered", Variant::from(world.metered))]))
                            }
                            "org.freedesktop.login1.Session" => {
                                let found = world.sessions.iter().find(|(id, ..)| path_of(id) == path);
                                found.map(|(_, _, properties)| {
                                    properties.iter().map(|(name, value)| (*name, value.try_clone().unwrap())).collect()
                                })
                            }
                            other => panic!("{other} was not to be asked for"),
                        }
                    };
                    match found {
                        Some(properties) => answering.reply(&header, &properties).await.unwrap(),
                        None => {
                            let unknown = "org.freedesktop.DBus.Error.UnknownObject";
                            answering.reply_error(&header, unknown, &"no such session").await.unwrap();
                        }
                    }
                }
                other => panic!("{other} was not to be called"),
            }
        }
    });
    connection
}

/// Microseconds of the wall clock, so many seconds ago.
fn ago(seconds: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from((now - Duration::from_secs(seconds)).as_micros()).unwrap()
}

fn desktop(idle: bool, since: u64, locked: bool) -> Properties {
    Properties::from([
        ("Class", Variant::from("user")),
        ("Type", Variant::from("wayland")),
        ("IdleHint", Variant::from(idle)),
        ("IdleSinceHint", Variant::from(since)),
        ("LockedHint", Variant::from(locked)),
    ])
}

fn terminal(since: u64) -> Properties {
    let mut properties = desktop(false, since, false);
    properties.insert("Type", Variant::from("tty"));
    properties
}

fn greeter() -> Properties {
    let mut properties = desktop(false, 0, false);
    properties.insert("Class", Variant::from("greeter"));
    properties
}

fn empty() -> PathBuf {
    PathBuf::from("/nonexistent")
}

#[tokio::test(flavor = "multi_thread")]
async fn logind_tells_whether_somebody_sits_at_the_computer() {
    let Some(bus) = Bus::start("idleness by logind") else { return };
    let world = Arc::new(Mutex::new(World::default()));
    let logind = stand_in(&bus.address, world.clone()).await;
    let root = tempfile::tempdir().unwrap();
    // What the terminals say does not matter as long as there is logind.
    typed(&root.path().join("dev"), "tty1", 4_000);
    let mut computer = computer(root.path(), &bus.address);
    let mut idle = async |sessions| {
        world.lock().unwrap().sessions = sessions;
        computer.read().await.idle_seconds
    };
    assert_eq!(idle(vec![]).await, None, "nobody is logged in");
    let remote = ("7", "", terminal(ago(1)));
    assert_eq!(idle(vec![remote, ("c1", "seat0", greeter())]).await, None, "nobody sits there");
    assert_eq!(idle(vec![("2", "seat0", desktop(false, ago(900), false))]).await, Some(0), "since 900 s in use");
    let dark = idle(vec![("2", "seat0", desktop(true, ago(900), false))]).await.unwrap();
    assert!((900..4_000).contains(&dark), "{dark}");
    // Two people: the last input of either.
    let both = vec![("2", "seat0", desktop(true, ago(9_000), false)), ("3", "seat0", terminal(ago(300)))];
    let both = idle(both).await.unwrap();
    assert!((300..4_000).contains(&both), "{both}");
    // The clock was set back.
    let later = ago(0) + 3_600_000_000;
    assert_eq!(idle(vec![("2", "seat0", desktop(true, later, false))]).await, Some(0));
    // logind ends: what the terminals say is better than nothing.
    logind.release_name("org.freedesktop.login1").await.unwrap();
    let typed = idle(vec![]).await.unwrap();
    assert!(typed >= 4_000, "{typed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn network_manager_tells_whether_the_network_is_metered() {
    let Some(bus) = Bus::start("metered networks by NetworkManager") else { return };
    let world = Arc::new(Mutex::new(World::default()));
    let _manager = stand_in(&bus.address, world.clone()).await;
    for (value, metered) in [(0, None), (1, Some(true)), (2, Some(false)), (3, Some(true)), (4, Some(false)), (9, None)]
    {
        world.lock().unwrap().metered = value;
        assert_eq!(computer(&empty(), &bus.address).read().await.metered, metered, "{value}");
    }
}
