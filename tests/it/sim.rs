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

#[test]
fn tables_about_votes_come_with_bounds_and_verdicts() {
    let home = Home::new();
    let rows = home.path("votes.csv");
    let args = ["sim", "vote", "--seeds", "1", "--jobs", "2000", "--table", "rule", "--table", "stragglers"];
    let report: serde_json::Value = home.json(&[&args[..], &["--csv", rows.to_str().unwrap()]].concat());
    let rule = report["rule"].as_array().unwrap();
    assert_eq!(rule.len(), 18);
    for row in rule {
        let (error, most) = (row["error"].as_f64().unwrap(), row["errorAtMost"].as_f64().unwrap());
        assert!(error < most && most < 1.0 && row["redundancy"].as_f64().unwrap() > 1.0, "{row}");
        // So few jobs show no promise of 1e-6 to be kept.
        assert!(row["errorTarget"].as_f64().is_none_or(|target| target > 1e-5) || row["isMet"] == false, "{row}");
    }
    assert!(report["stragglers"].as_array().unwrap().iter().any(|row| row["isMet"] == true));
    assert!(report["known"].is_null() && report["incomes"].is_null(), "what was not asked for");
    let text = std::fs::read_to_string(rows).unwrap();
    assert!(text.starts_with("table,row,figure,value\n") && text.contains("errorAtMost"), "{text}");
    let told = home.run(&["sim", "vote", "--seeds", "1", "--table", "stragglers"]).succeeded();
    assert!(told.stdout.contains("makespan / ideal") && told.stdout.contains("met"), "{}", told.stdout);
    home.run(&["sim", "vote", "--seeds", "0"]).refused(2, &["0 is not in 1.."]);
    home.run(&["sim", "vote", "--table", "weather"]).refused(2, &["known", "incomes"]);
}
