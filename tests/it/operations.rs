//! What an operator of a provider looks at and sets up: metrics, event log, service manager, completions, manual pages.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    support::{Devnet, Home, PATIENCE, Server},
    walk::hello,
};

/// A registered provider `lender` that does not run.
fn registered(home: &Home) -> (Devnet, String) {
    let devnet = home.devnet(&[]);
    home.run(&["account", "import", "lender", "--devnet", "1"]).succeeded();
    let folder = home.path("lender").to_str().unwrap().to_owned();
    let init = ["provider", "init", "--account", "lender", "--rpc-url", &devnet.url, "--data-dir", &folder];
    home.run(&[&init[..], &["--poll-millis", "150", "--run-always"]].concat()).succeeded();
    (devnet, folder)
}

/// The body of an answer that must have `status`.
fn get(address: &str, host: &str, status: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    answer
}

fn set_metrics(folder: &str, address: &str) {
    let path = Path::new(folder).join("provider.toml");
    let text = fs::read_to_string(&path).unwrap();
    let other = text.lines().filter(|line| !line.starts_with("metrics")).map(|line| format!("{line}\n"));
    fs::write(path, format!("metrics = \"{address}\"\n{}", other.collect::<String>())).unwrap();
}

#[test]
fn metrics_and_the_event_log_tell_of_a_paid_job() {
    let home = Home::new();
    let (devnet, folder) = registered(&home);
    set_metrics(&folder, "0.0.0.0:9615");
    home.run(&["provider", "run", "--data-dir", &folder]).refused(1, &["metrics", "write 127.0.0.1:9615"]);
    // A port that is free now and, most likely, a moment later.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    set_metrics(&folder, &address);
    home.run(&["provider", "run", "--data-dir", &folder]).refused(1, &["cannot serve metrics at", "provider.toml"]);
    drop(free);

    let mut running = Server::start(home.conun(&["provider", "run", "--json", "--data-dir", &folder]));
    running.wait_for("\"ready\"");
    home.run(&["account", "import", "client", "--devnet", "2"]).succeeded();
    let submit = ["job", "submit", hello(), "--account", "client", "--rpc-url", &devnet.url, "--out", "o"];
    home.run(&[&submit[..], &["--poll-millis", "100"]].concat()).succeeded();

    let text = get(&address, &address, "200");
    let value = |name: &str| -> f64 {
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        line.trim().parse().unwrap()
    };
    assert_eq!(value("conun_jobs_total{outcome=\"executed\"}"), value("conun_jobs_total{outcome=\"submitted\"}"));
    assert!(value("conun_jobs_total{outcome=\"submitted\"}") >= 1.0);
    assert!(value("conun_fuel_used_total") > 0.0 && value("conun_chain_head_block") > 0.0);
    assert!(value("conun_escrow_tokens{kind=\"stake\"}") > 0.0);
    assert_eq!((value("conun_nonce_gap"), value("conun_reorgs_total")), (0.0, 0.0));
    assert!(!text.contains("0x"), "neither jobs nor accounts are labels: {text}");
    get(&address, "evil.example", "403");
    // What documentation and dashboard name is there.
    let named = [include_str!("../../docs/operating.md"), include_str!("../../docs/grafana.json")].concat();
    let words = named.split(|letter: char| !(letter.is_ascii_lowercase() || letter == '_'));
    for metric in words.filter(|word| word.starts_with("conun_")) {
        assert!(text.contains(metric), "no {metric} in {text}");
    }

    let log = fs::read_to_string(Path::new(&folder).join("events.jsonl")).unwrap();
    let events: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for kind in ["ready", "leased", "executed", "submitted"] {
        assert!(events.iter().any(|event| event["event"] == kind && event["time"].is_u64()), "no {kind} in {log}");
    }
}

#[test]
fn the_service_manager_hears_of_start_life_and_end() {
    let home = Home::new();
    let (_devnet, folder) = registered(&home);
    let path = home.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).expect("the agent tells nothing");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    // The password as systemd hands it over.
    let credentials = home.path("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::copy(home.path("password"), credentials.join("password")).unwrap();
    let mut command = home.conun(&["provider", "run", "--json", "--data-dir", &folder]);
    command.env_remove("ETH_PASSWORD").env("CREDENTIALS_DIRECTORY", &credentials);
    let mut running = Server::start({
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000000");
        command
    });
    while !next().contains("READY=1") {}
    let alive = loop {
        let text = next();
        if text.contains("WATCHDOG=1") {
            break text;
        }
    };
    assert!(alive.contains("STATUS=block "), "{alive}");
    running.signal("-TERM");
    while !next().contains("STOPPING=1") {}
    assert_eq!(running.wait(), Some(0));
}

#[test]
fn a_unit_is_written_where_the_user_s_units_are() {
    let home = Home::new();
    let (_devnet, folder) = registered(&home);
    let install = ["provider", "install-service", "--data-dir", &folder];
    fs::set_permissions(home.path("password"), fs::Permissions::from_mode(0o644)).unwrap();
    home.run(&install).refused(1, &["others can read", "chmod 600", "nothing was written"]);
    let bare = home.conun(&install).env_remove("ETH_PASSWORD").output().unwrap();
    assert_eq!(bare.status.code(), Some(2), "{bare:?}");
    fs::set_permissions(home.path("password"), fs::Permissions::from_mode(0o600)).unwrap();
    let printed = home.run(&[&install[..], &["--print"]].concat()).succeeded().stdout;
    let path = home.path(".config/systemd/user/conun-provider.service");
    assert!(!path.exists(), "--print writes nothing");
    let mut command = home.conun(&install);
    assert!(command.env_remove("XDG_CONFIG_HOME").output().unwrap().status.success());
    let files = ["conun-provider.service", "conun.slice"].map(|name| (name, path.with_file_name(name)));
    let texts = files.each_ref().map(|(name, path)| format!("# {name}\n{}\n", fs::read_to_string(path).unwrap()));
    assert_eq!(texts.concat(), printed);
    assert!(printed.contains("\nSlice=conun.slice\n") && printed.contains("\nCPUWeight=1\n"), "{printed}");
    assert!(printed.contains("\nLimitNICE=+0\n") && printed.contains("\nDelegate=cpu io\n"), "{printed}");
    // What systemd itself says of them, where it is at hand.
    let mut systemd = Command::new("systemd-analyze");
    if let Ok(output) = systemd.args(["--user", "verify"]).args(files.map(|file| file.1)).output() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!text.contains("conun"), "{text}");
    }
    assert!(printed.contains("Type=notify") && !printed.contains("correct horse"), "{printed}");
    home.run(&["provider", "install-service", "--data-dir", home.path("none").to_str().unwrap()])
        .refused(1, &["conun provider init"]);
}

#[test]
fn the_doctor_names_what_keeps_a_provider_from_working() {
    let home = Home::new();
    let (devnet, folder) = registered(&home);
    let doctor = |home: &Home| {
        let output =
            home.conun(&["doctor", "--json", "--rpc-url", &devnet.url]).env("CONUN_HOME", home.path("")).output();
        let checks: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        move |name: &str| {
            let found = checks.as_array().unwrap().iter().find(|check| check["name"] == name);
            let found = found.unwrap_or_else(|| panic!("no {name} in {checks}"));
            (found["ok"] == true, found["text"].as_str().unwrap().to_owned())
        }
    };
    fs::rename(&folder, home.path("provider")).unwrap();
    let healthy = doctor(&home);
    for name in
        ["endpoint", "contracts", "clock", "keystore", "sandbox", "engine", "disk", "peers", "registration", "gas"]
    {
        let (ok, text) = healthy(name);
        assert!(ok, "{name}: {text}");
    }
    assert!(healthy("allowance").0 && healthy("nonce").0);
    assert!(healthy("engine").1.contains("wasmer-"));
    // All its ether but a little goes elsewhere.
    let other = "0x000000000000000000000000000000000000dEaD";
    let balance = home.json(&["account", "balance", "lender", "--rpc-url", &devnet.url]);
    let ether: u128 = u128::from_str_radix(balance["ether"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    let rest = format!("{}wei", ether - 10u128.pow(15));
    home.run(&["account", "send", other, &rest, "--ether", "--account", "lender", "--rpc-url", &devnet.url])
        .succeeded();
    let (ok, text) = doctor(&home)("gas");
    assert!(!ok && text.contains("conun account send") && text.contains("--ether"), "{text}");
    // A group that is no contract.
    let settings = home.path("provider/provider.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text.replace("groups = []", &format!("groups = ['{other}']"))).unwrap();
    let (ok, text) = doctor(&home)("groups");
    assert!(!ok && text.contains(other) && text.contains("balanceOf"), "{text}");
}

#[test]
fn what_init_is_told_stands_in_the_settings() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    home.run(&["account", "import", "lender", "--devnet", "1"]).succeeded();
    let token = devnet.report["contracts"]["token"].as_str().unwrap().to_owned();
    let folder = home.path("lender");
    let init =
        ["provider", "init", "--account", "lender", "--rpc-url", &devnet.url, "--data-dir", folder.to_str().unwrap()];
    let told =
        ["--categories", "2,7", "--groups", &token, "--max-memory", "64", "--max-disk", "3", "--min-price", "0.5"];
    home.run(&[&init[..], &told].concat()).succeeded();
    let text = fs::read_to_string(folder.join("provider.toml")).unwrap();
    let settings: toml::Table = text.parse().unwrap();
    let (policy, preferences) = (&settings["policy"], &settings["preferences"]);
    assert_eq!(policy["categories"].to_string(), "[2, 7]");
    assert!(policy["groups"].to_string().eq_ignore_ascii_case(&format!("[\"{token}\"]")), "{text}");
    assert_eq!((policy["max-memory-bytes"].as_integer(), policy["min-price"].as_str()), (Some(64 << 20), Some("0.5")));
    assert_eq!(
        (preferences["disk-max-used-gb"].as_integer(), preferences["run-on-batteries"].as_bool()),
        (Some(3), Some(false))
    );
}

#[test]
fn completions_manual_pages_and_json_logs() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.run(&["completions", shell]).succeeded().stdout;
        assert!(script.contains("install-service"), "{shell}");
    }
    home.run(&["completions", "cmd"]).refused(2, &["bash"]);
    let mut command = home.conun(&["completions", "bash"]);
    let mut unread = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(unread.stdout.take());
    let output = unread.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    home.run(&["man", "pages"]).succeeded();
    let page = fs::read_to_string(home.path("pages/conun-provider-run.1")).unwrap();
    assert!(page.contains("Work until told to stop"), "{page}");

    let logs = home.conun(&["job", "list", "--rpc-url", "http://127.0.0.1:1", "--log-format", "json"]);
    let output = { logs }.env("RUST_LOG", "trace").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let records = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    assert!(
        records.filter(|record| record["level"].is_string() && record["timestamp"].is_string()).count() > 0,
        "{text}"
    );
}

#[test]
fn on_a_terminal_init_asks_and_says_what_a_day_earns() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    home.run(&["account", "import", "lender", "--devnet", "1"]).succeeded();
    let folder = home.path("lender").to_str().unwrap().to_owned();
    home.run(&["bench", "--seconds", "1", "--workers", "1", "--data-dir", &folder]).succeeded();
    // `script` gives the command a terminal. Enter takes the default of each question but the least price, and `y` confirms.
    let command = format!("{} provider init --rpc-url {} --data-dir {folder}", env!("CARGO_BIN_EXE_conun"), devnet.url);
    let answer = |keys: &str| {
        let mut script = home.conun(&[]);
        let (environment, place): (Vec<_>, _) = (
            script.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect(),
            script.get_current_dir().unwrap().to_owned(),
        );
        script = std::process::Command::new("script");
        for (name, value) in environment {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        script.args(["-qec", &command, "/dev/null"]).current_dir(place).env("TERM", "xterm");
        let mut child =
            script.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(keys.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // account, payout, stake, workers, price, categories, groups, memory, use while active, disk, register
    let (code, said) = answer("\r\r\r\r0.5\r\r\r\rn\rn");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nothing was sent, nothing was written"), "{said}");
    assert!(!home.path("lender/provider.toml").exists());

    let (code, said) = answer("\r\r\r\r0.5\r2, 7\r\r64\rn\ry");
    assert_eq!(code, Some(0), "{said}");
    for words in ["Account that signs", "Address that earnings", "Tokens at stake", "CON a day", "registered"] {
        assert!(said.contains(words), "no `{words}` in {said}");
    }
    let settings = fs::read_to_string(home.path("lender/provider.toml")).unwrap();
    for line in [
        "min-price = \"0.5\"",
        "max-memory-bytes = 67108864",
        "groups = []",
        "run-if-user-active = false",
        "disk-max-used-gb = 10",
    ] {
        assert!(settings.contains(&format!("{line}\n")), "no `{line}` in {settings}");
    }
    let settings: toml::Table = settings.parse().unwrap();
    assert_eq!(settings["policy"]["categories"].to_string(), "[2, 7]");
}

#[test]
fn a_job_is_done_by_a_provider_that_names_the_relay_that_a_command_runs() {
    let home = Home::new();
    home.run(&["relay", "--listen", "0.0.0.0:0"]).refused(2, &["--host"]);
    let mut relay = Server::start(home.conun(&["relay", "--listen", "127.0.0.1:0"]));
    let url = relay.line().trim().to_owned();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    assert!(relay.wait_for("relay = ").contains(&url));
    let (devnet, folder) = registered(&home);
    let path = Path::new(&folder).join("provider.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("relay = \"none\"", "relay = \"relay.example\"")).unwrap();
    home.run(&["provider", "run", "--data-dir", &folder]).refused(1, &["provider.toml", "is no relay", "conun relay"]);
    fs::write(&path, text.replace("relay = \"none\"", &format!("relay = \"{url}\""))).unwrap();
    let mut running = Server::start(home.conun(&["provider", "run", "--json", "--data-dir", &folder]));
    running.wait_for("\"ready\"");
    home.run(&["account", "import", "client", "--devnet", "2"]).succeeded();
    let submit = ["job", "submit", hello(), "--account", "client", "--rpc-url", &devnet.url, "--out", "o"];
    home.run(&[&submit[..], &["--poll-millis", "100", "--relay", &url, "--max-bytes-sec-up", "1"]].concat())
        .refused(2, &["`max-bytes-sec-up` is 1", "65536"]);
    home.run(&[&submit[..], &["--poll-millis", "100", "--relay", &url]].concat()).succeeded();
    assert!(home.path("o").join("0").is_file());
}
