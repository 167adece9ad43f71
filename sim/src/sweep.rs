//! The same scenario with other values in it: where does cheating stop paying?

use serde::Serialize;
use toml::{Table, Value};

use crate::{
    Figures, Run, Scenario, ScenarioError,
    report::{interval, share_interval},
    scenario::{ProviderStrategy, ProviderTerms},
};

/// One parameter and its values.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Axis {
    /// Where it is in the scenario: keys with dots between; groups by their names, `requesters.careful.job.price`.
    pub key: String,
    /// What it is set to, one after the other.
    pub values: Vec<Value>,
}

impl Axis {
    /// Reads `key=value,value,...`, the values as TOML writes them.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (key, values) =
            text.split_once('=').ok_or_else(|| format!("\"{text}\" is not of the form key=value,value"))?;
        let list = format!("values = [{values}]");
        let table: Table = toml::from_str(&list).map_err(|error| format!("{key}: {}", error.message()))?;
        match table.get("values").and_then(Value::as_array) {
            Some(values) if !values.is_empty() => Ok(Self { key: key.trim().to_owned(), values: values.clone() }),
            _ => Err(format!("{key} has no values")),
        }
    }
}

/// A point of the grid: what was set, and the scenario that it gives.
#[derive(Clone, Debug)]
pub struct Variation {
    /// Keys and values.
    pub set: Vec<(String, Value)>,
    /// The scenario.
    pub scenario: Scenario,
}

/// All combinations of the axes' values in a scenario.
///
/// # Errors
/// If a key leads nowhere, or a value makes no scenario.
pub fn grid(scenario: &Scenario, axes: &[Axis]) -> Result<Vec<Variation>, ScenarioError> {
    let path = scenario.name.clone();
    let bad = |reason: String| ScenarioError::Value { path: path.clone(), reason };
    let base = Table::try_from(scenario).map_err(|error| bad(error.to_string()))?;
    let mut points = vec![(Vec::new(), base)];
    for axis in axes {
        let mut next = Vec::new();
        for (set, table) in &points {
            for value in &axis.values {
                let (mut set, mut table) = (set.clone(), table.clone());
                put(&mut table, &axis.key, value.clone()).map_err(&bad)?;
                set.push((axis.key.clone(), value.clone()));
                next.push((set, table));
            }
        }
        points = next;
    }
    let made = |(set, table): (Vec<_>, Table)| {
        let text = toml::to_string(&table).map_err(|error| bad(error.to_string()))?;
        Ok(Variation { set, scenario: Scenario::parse(&text, &scenario.name, &path)? })
    };
    points.into_iter().map(made).collect()
}

fn put(table: &mut Table, key: &str, value: Value) -> Result<(), String> {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return Ok(());
    };
    match table.entry(first).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(inner) => put(inner, rest, value),
        Value::Array(groups) => {
            let (name, rest) = rest.split_once('.').ok_or_else(|| format!("{key}: which key of the group?"))?;
            let mut groups = groups.iter_mut().filter_map(Value::as_table_mut);
            let group = groups.find(|group| group.get("name").and_then(Value::as_str) == Some(name));
            put(group.ok_or_else(|| format!("{first}: there is no group \"{name}\""))?, rest, value)
        }
        _ => Err(format!("{key}: {first} is a value and has no keys")),
    }
}

/// What runs of one scenario come to, for a row of a table.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// What was set, or the scenario's name.
    pub what: String,
    /// Runs.
    pub runs: usize,
    /// Batches paid, of all that were posted.
    pub settled: f64,
    /// Wrong ones among those that were paid.
    pub wrong: f64,
    /// No more than this, with 95 % confidence.
    pub wrong_at_most: f64,
    /// Results for each paid batch.
    pub redundancy: f64,
    /// Tokens a gigafuel that was paid.
    pub cost: f64,
    /// Median of the jobs' makespans, seconds.
    pub makespan: f64,
    /// What each group of providers gains.
    pub gains: Vec<Gain>,
}

/// What a group of providers gains.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gain {
    /// The group.
    pub group: String,
    /// Whether it follows the rules.
    pub honest: bool,
    /// Tokens that one of its agents gains a run, costs of execution counted.
    pub gain: f64,
    /// Half of the 95 % interval of that.
    pub half: f64,
    /// Of cheats: whether that is more than the best honest group gains, and than nothing.
    pub pays: Option<Pays>,
}

/// Whether cheating pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Pays {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// So few runs do not tell.
    Unclear,
}

/// From where on cheating does not pay.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// The group of cheats.
    pub group: String,
    /// The other keys and their values.
    pub others: Vec<(String, Value)>,
    /// The key that goes through its values, the last one given.
    pub key: String,
    /// The first value from which on cheating does not pay with any that follows; `None` if it does with the last one, or may.
    pub from: Option<Value>,
}

/// The row of a scenario's runs.
pub fn row(what: String, scenario: &Scenario, runs: &[Run]) -> Row {
    let sum = |of: fn(&Figures) -> u64| runs.iter().map(|run| of(&run.figures)).sum::<u64>();
    let share = |part: u64, all: u64| if all == 0 { 0.0 } else { part as f64 / all as f64 };
    let mean = |of: fn(&Figures) -> f64| interval(&runs.iter().map(|run| of(&run.figures)).collect::<Vec<_>>()).0;
    let mut makespans: Vec<_> = runs.iter().flat_map(|run| run.figures.makespans.iter().copied()).collect();
    makespans.sort_by(f64::total_cmp);
    let (wrong, judged) = (sum(|figures| figures.wrong), sum(|figures| figures.judged));
    let gain = |(at, terms): (usize, &ProviderTerms)| {
        let group = scenario.requesters.len() + at;
        let each = |run: &Run| {
            let group = &run.figures.groups[group];
            (group.gain - group.cost) / f64::from(group.count.max(1))
        };
        let (gain, half) = interval(&runs.iter().map(each).collect::<Vec<_>>());
        let honest = terms.strategy == ProviderStrategy::Honest;
        Gain { group: terms.name.clone(), honest, gain, half, pays: None }
    };
    let mut gains: Vec<_> = scenario.providers.iter().enumerate().map(gain).collect();
    let honest = gains.iter().filter(|gain| gain.honest).map(|gain| (gain.gain, gain.half));
    let (best, best_half) = honest.fold((0.0, 0.0), |best, gain| if gain.0 > best.0 { gain } else { best });
    for cheat in gains.iter_mut().filter(|gain| !gain.honest) {
        let both = libm::sqrt(cheat.half * cheat.half + best_half * best_half);
        let unsure = if runs.len() < 2 { f64::INFINITY } else { both };
        cheat.pays = Some(match cheat.gain - best {
            more if more > unsure => Pays::Yes,
            more if more < -unsure => Pays::No,
            _ => Pays::Unclear,
        });
    }
    Row {
        what,
        runs: runs.len(),
        settled: share(sum(|figures| figures.settled), sum(|figures| figures.batches)),
        wrong: share(wrong, judged),
        wrong_at_most: share_interval(wrong, judged).1,
        redundancy: share(sum(|figures| figures.results), sum(|figures| figures.settled)),
        cost: mean(|figures| figures.cost_per_gigafuel),
        makespan: makespans.get(makespans.len() / 2).copied().unwrap_or_default(),
        gains,
    }
}

/// From where on cheating does not pay, for each group of cheats and each combination of all keys but the last: `points` are a grid's, `rows`
/// theirs.
pub fn stops(points: &[Variation], rows: &[Row]) -> Vec<Stop> {
    let mut stops: Vec<Stop> = Vec::new();
    for (point, row) in points.iter().zip(rows) {
        let Some(((key, value), others)) = point.set.split_last() else { continue };
        for cheat in row.gains.iter().filter(|gain| !gain.honest) {
            let known = stops.iter().position(|stop| stop.group == cheat.group && stop.others == others);
            let at = known.unwrap_or_else(|| {
                let (group, others, key) = (cheat.group.clone(), others.to_vec(), key.clone());
                stops.push(Stop { group, others, key, from: None });
                stops.len() - 1
            });
            let from = stops[at].from.take();
            stops[at].from = (cheat.pays == Some(Pays::No)).then(|| from.unwrap_or_else(|| value.clone()));
        }
    }
    stops
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_read_and_multiply() {
        let scenario = crate::named("lazy-audits").unwrap().unwrap();
        let axes = [
            Axis::parse("requesters.audited.job.assurance.audit-share=0.1,0.5").unwrap(),
            Axis::parse("chain.min-stake=50.0,100.0,200.0").unwrap(),
        ];
        let points = grid(&scenario, &axes).unwrap();
        assert_eq!(points.len(), 6);
        let last = &points[5].scenario;
        assert_eq!(last.chain.min_stake, 200.0);
        assert_eq!(last.requesters[0].job.assurance.as_ref().unwrap().audit_share, 0.5);
        let strategy = Axis::parse("providers.lazy.strategy=\"squatting\",{ lazy = { share = 0.1 } }").unwrap();
        let points = grid(&scenario, &[strategy]).unwrap();
        assert_eq!(points[1].scenario.providers[1].strategy, ProviderStrategy::Lazy { share: 0.1 });
    }

    #[test]
    fn it_stops_where_it_does_not_pay_for_the_rest_of_the_values() {
        let scenario = crate::named("lazy-audits").unwrap().unwrap();
        let axes = ["chain.min-stake=1.0,2.0", "requesters.audited.job.assurance.audit-share=0.1,0.3,0.5,0.7"];
        let points = grid(&scenario, &axes.map(|axis| Axis::parse(axis).unwrap())).unwrap();
        let row = |pays| {
            let mut row = row(String::new(), &scenario, &[]);
            row.gains.iter_mut().filter(|gain| !gain.honest).for_each(|gain| gain.pays = Some(pays));
            row
        };
        use Pays::{No, Unclear, Yes};
        let rows = [No, Unclear, No, No, Yes, Yes, No, Unclear].map(row);
        let stops = stops(&points, &rows);
        let told: Vec<_> = stops.iter().map(|stop| (stop.others[0].1.as_float(), stop.from.clone())).collect();
        assert_eq!(told, [(Some(1.0), Some(Value::Float(0.5))), (Some(2.0), None)]);
        assert!(stops.iter().all(|stop| stop.group == "lazy" && stop.key.ends_with("audit-share")));
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        let scenario = crate::named("market").unwrap().unwrap();
        let refused = |text: &str| match Axis::parse(text) {
            Err(text) => text,
            Ok(axis) => grid(&scenario, &[axis]).unwrap_err().to_string(),
        };
        for (text, says) in [
            ("chain.min-stake", "is not of the form"),
            ("chain.min-stake=", "has no values"),
            ("chain.min-stake=abc", "chain.min-stake"),
            ("requesters.nobody.job.price=1", "there is no group \"nobody\""),
            ("chain.least-stake=1", "unknown field `least-stake`"),
            ("seconds.x=1", "seconds is a value and has no keys"),
        ] {
            assert!(refused(text).contains(says), "{text}: {}", refused(text));
        }
    }
}
