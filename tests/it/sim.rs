//! The simulator from the command line.

use crate::support::Home;

#[test]
fn a_scenario_is_played_reported_and_played_again_alike() {
    let home = Home::new();
    let (page, rows) = (home.path("report.html"), home.path("rows.csv"));
    let args =
        ["sim", "run", "market", "--seed", "2", "--report", page.to_str().unwrap(), "--csv", rows.to_str().unwrap()];
    let first: serde_json::Value = home.json(&args);
    let second: serde_json::Value = home.json(&["sim", "run", "market", "--seed", "2"]);
    assert_eq!(first["runs"][0]["trace"], second["runs"][0]["trace"]);
    assert!(first["runs"][0]["figures"]["settled"].as_u64().unwrap() > 0);
    assert_eq!(first["violations"].as_array().unwrap().len(), 0);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<svg") && page.contains("No invariant broke in 1 runs"));
    assert!(!page.contains("http://") && !page.contains("https://"), "the page needs no network");
    let rows = std::fs::read_to_string(rows).unwrap();
    assert_eq!(rows.lines().count(), 5, "a heading, three groups of requesters, one of providers");
    home.run(&["sim", "list"]).succeeded();
}

#[test]
fn what_cannot_be_played_is_refused() {
    let home = Home::new();
    home.run(&["sim", "run", "no-such"]).refused(2, &["there is no scenario no-such", "conun sim list"]);
    let file = home.path("mine.toml");
    std::fs::write(&file, "hours = 3\n").unwrap();
    home.run(&["sim", "run", file.to_str().unwrap()])
        .refused(1, &["mine.toml is no scenario", "unknown field `hours`"]);
    home.run(&["sim", "sweep", "market", "--set", "chain"]).refused(2, &["not of the form key=value"]);
}

#[test]
fn what_is_not_as_expected_fails_with_the_command_that_shows_it() {
    let home = Home::new();
    let file = home.path("mine.toml");
    let scenario = "seconds = 300\n[[requesters]]\nname = \"a\"\narrivals = { at = [1] }\n[[providers]]\nname = \"b\"\n\
                    [expect]\nlosing = [\"b\"]\n";
    std::fs::write(&file, scenario).unwrap();
    let file = file.to_str().unwrap();
    let played = home.run(&["sim", "run", file, "--seeds", "1"]);
    let text = format!("{}{}", played.stdout, played.stderr);
    assert_eq!(played.code, Some(1), "{text}");
    assert!(
        text.contains("instead of losing") && text.contains(&format!("play it again: conun sim run {file}")),
        "{text}"
    );
}
