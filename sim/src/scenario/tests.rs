use super::*;

const LEAST: &str = "
[[requesters]]
name = \"a\"
arrivals = { at = [1] }
[[providers]]
name = \"b\"
";

fn read(more: &str) -> Result<Scenario, String> {
    Scenario::parse(&format!("{more}{LEAST}"), "least", "least.toml").map_err(|error| error.to_string())
}

#[test]
fn what_is_left_out_has_a_default() {
    let scenario = read("").unwrap();
    assert_eq!((scenario.name.as_str(), scenario.seconds), ("least", 3_600));
    assert_eq!(scenario.providers[0].strategy, ProviderStrategy::Honest);
    assert_eq!(scenario.requesters[0].job, JobTerms::default());
}

#[test]
fn what_is_not_known_is_refused_with_its_name() {
    for (more, says) in [
        ("secs = 5\n", "unknown field `secs`"),
        ("[chain]\nblock-second = 5\n", "unknown field `block-second`"),
        ("[chain.reorgs]\nevery-blocks = 5\n", "missing field `depth`"),
        ("[network]\nloss = 2\n", "network.loss is a share: from 0 to 1, not 2"),
        ("[expect]\nlosing = [\"nobody\"]\n", "there is no group \"nobody\""),
        ("[network]\nlatency-millis = \"fast\"\n", "a number, or { uniform"),
    ] {
        let error = read(more).unwrap_err();
        assert!(error.contains(says) && error.starts_with("least.toml"), "{more}: {error}");
    }
}

#[test]
fn groups_have_names_of_their_own() {
    let twice = format!("{LEAST}[[providers]]\nname = \"a\"\n");
    let error = Scenario::parse(&twice, "x", "x.toml").unwrap_err().to_string();
    assert!(error.contains("\"a\" is empty or there twice"), "{error}");
    let error = Scenario::parse("requesters = []\nproviders = []\n", "x", "x.toml").unwrap_err().to_string();
    assert!(error.contains("at least one [[requesters]]"), "{error}");
}

#[test]
fn strategies_are_words_or_tables() {
    let strategy = |text: &str| {
        let scenario = format!("{LEAST}[[providers]]\nname = \"c\"\nstrategy = {text}\n");
        Scenario::parse(&scenario, "x", "x.toml").map(|scenario| scenario.providers[1].strategy)
    };
    assert_eq!(strategy("\"squatting\"").unwrap(), ProviderStrategy::Squatting);
    let colluding = ProviderStrategy::Colluding { rate: 0.5, agreement: 1.0 };
    assert_eq!(strategy("{ colluding = { rate = 0.5, agreement = 1.0 } }").unwrap(), colluding);
    let error = strategy("{ colluding = { rate = 0.5 } }").unwrap_err().to_string();
    assert!(error.contains("missing field `agreement`"), "{error}");
    let error = strategy("\"evil\"").unwrap_err().to_string();
    assert!(error.contains("unknown variant `evil`"), "{error}");
}

/// A scenario that does not say who or what, and is written in terms of the library alone, is written again as it was read.
#[test]
fn a_scenario_that_is_written_is_read_back() {
    let scenario =
        read("[chain]\nblock-seconds = { uniform = [1, 5] }\nreorgs = { every-blocks = 9, depth = 2 }\n").unwrap();
    let text = toml::to_string(&scenario).unwrap();
    assert_eq!(Scenario::parse(&text, "x", "x.toml").unwrap(), scenario);
}
