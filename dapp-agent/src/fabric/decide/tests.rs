use proptest::prelude::*;

use super::*;

const NOON: Moment = Moment { day: Day::Wed, minute: 720, network_bytes: 0 };

fn quiet() -> Readings {
    Readings {
        others_cpu_percent: Some(3),
        on_battery: Some(false),
        celsius: Some(45),
        data_bytes: Some(1_000),
        free_bytes: Some(50_000_000_000),
        metered: Some(false),
        idle_seconds: Some(3_600),
    }
}

fn first(preferences: &Preferences, readings: &Readings, now: &Moment) -> Verdict {
    Judge::default().judge(preferences, readings, now, 8)
}

fn text(verdict: &Verdict) -> String {
    verdict.reason().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn a_quiet_computer_works_within_its_limits_and_so_does_one_without_sensors() {
    let preferences = Preferences { max_ncpus_pct: 50, cpu_usage_limit: 60, ..Preferences::default() };
    let expected = Verdict::Run(Limits { workers: 4, share_percent: 60 });
    assert_eq!(first(&preferences, &quiet(), &NOON), expected);
    assert_eq!(first(&preferences, &Readings::default(), &NOON), expected);
}

#[test]
fn each_reason_stops_says_what_it_is_and_can_be_switched_off() {
    let preferences = Preferences {
        hours: Some("08:00-20:00".parse().unwrap()),
        days: [Day::Wed, Day::Thu].into(),
        network_bytes_per_day: 1_000,
        ..Preferences::default()
    };
    let night = Moment { minute: 60, ..NOON };
    let sunday = Moment { day: Day::Sun, ..NOON };
    let spent = Moment { network_bytes: 1_000, ..NOON };
    let active = Readings { idle_seconds: Some(20), ..quiet() };
    let stops = [
        (active, NOON, "the user was active 20 s ago; runs again after 3 min of idleness"),
        (Readings { on_battery: Some(true), ..quiet() }, NOON, "on battery; runs again on mains"),
        (
            Readings { others_cpu_percent: Some(26), ..quiet() },
            NOON,
            "use 26 % of the processors; runs again below 18 %",
        ),
        (Readings { celsius: Some(86), ..quiet() }, NOON, "86 °C at the hottest sensor; runs again at 75 °C"),
        (quiet(), night, "`hours` and `days`"),
        (quiet(), sunday, "`hours` and `days`"),
    ];
    for (readings, now, expected) in stops {
        let verdict = first(&preferences, &readings, &now);
        assert!(matches!(verdict, Verdict::Suspend(_)) && text(&verdict).contains(expected), "{verdict:?}");
        assert!(matches!(first(&Preferences::always(), &readings, &now), Verdict::Run(_)), "{readings:?}");
    }
    let takes_nothing = [
        (Readings { data_bytes: Some(10_000_000_001), ..quiet() }, NOON, "disk-max-used-gb = 10"),
        (Readings { metered: Some(true), ..quiet() }, NOON, "only-on-unmetered-network"),
        (quiet(), spent, "1000 bytes today"),
    ];
    for (readings, now, expected) in takes_nothing {
        let verdict = first(&preferences, &readings, &now);
        assert!(matches!(verdict, Verdict::NothingNew(..)) && text(&verdict).contains(expected), "{verdict:?}");
        assert!(matches!(first(&Preferences::always(), &readings, &now), Verdict::Run(_)), "{readings:?}");
    }
    // A full disk would cost stake, whatever is preferred.
    let full = Readings { free_bytes: Some(LEAST_FREE - 1), ..quiet() };
    assert!(matches!(first(&Preferences::always(), &full, &NOON), Verdict::NothingNew(..)));
    // What is at the mark is within it.
    let edge = Readings { others_cpu_percent: Some(25), celsius: Some(85), idle_seconds: Some(180), ..quiet() };
    assert!(matches!(first(&preferences, &edge, &NOON), Verdict::Run(_)));
}

#[test]
fn work_stops_at_once_and_goes_on_when_it_was_calm_for_long_enough_by_stricter_marks() {
    let preferences = Preferences::default();
    let mut judge = Judge::default();
    let mut step = |readings: Readings| judge.judge(&preferences, &readings, &NOON, 8);
    assert!(matches!(step(quiet()), Verdict::Run(_)));
    assert!(matches!(step(Readings { celsius: Some(86), ..quiet() }), Verdict::Suspend(Reason::Hot { .. })));
    // Between the marks it stays stopped, as long as it takes.
    for _ in 0..3 * CALM {
        assert!(matches!(step(Readings { celsius: Some(80), ..quiet() }), Verdict::Suspend(Reason::Hot { .. })));
    }
    for _ in 1..CALM {
        let verdict = step(quiet());
        assert!(text(&verdict).starts_with("runs again in a moment; before, 80 °C"), "{verdict:?}");
    }
    assert!(matches!(step(quiet()), Verdict::Run(_)));
}

fn any_preferences() -> impl Strategy<Value = Preferences> {
    let flags =
        (any::<bool>(), any::<bool>(), any::<bool>(), proptest::option::of(Just("06:00-22:00".parse().unwrap())));
    (flags, 0..=5u32, 0..=100u8, prop_oneof![Just(0u8), 40..=120u8], 0..3u64, 0..3u64).prop_map(
        |((active, batteries, unmetered, hours), minutes, busy, celsius, disk, network)| Preferences {
            run_if_user_active: active,
            run_on_batteries: batteries,
            only_on_unmetered_network: unmetered,
            hours,
            idle_time_to_run: minutes,
            suspend_cpu_usage: busy,
            max_celsius: celsius,
            disk_max_used_gb: disk,
            network_bytes_per_day: network,
            ..Preferences::default()
        },
    )
}

fn any_readings() -> impl Strategy<Value = (Readings, u64)> {
    use proptest::option::of;
    let parts = (of(0..=100u8), of(any::<bool>()), of(20..=125i16), of(0..4_000_000_000u64), of(0..1_000_000_000u64));
    (parts, of(any::<bool>()), of(0..400u64), 0..4u64).prop_map(
        |((others_cpu_percent, on_battery, celsius, data_bytes, free_bytes), metered, idle_seconds, network)| {
            let readings =
                Readings { others_cpu_percent, on_battery, celsius, data_bytes, free_bytes, metered, idle_seconds };
            (readings, network)
        },
    )
}

/// The same, but worse for work in every respect, or equal.
fn worse(readings: &Readings, by: &(Readings, u64)) -> Readings {
    let by = &by.0;
    Readings {
        others_cpu_percent: readings.others_cpu_percent.max(by.others_cpu_percent),
        on_battery: readings.on_battery.max(by.on_battery),
        celsius: readings.celsius.max(by.celsius),
        data_bytes: readings.data_bytes.max(by.data_bytes),
        // Unknown is the best here, as everywhere.
        free_bytes: [readings.free_bytes, by.free_bytes].into_iter().flatten().min(),
        metered: readings.metered.max(by.metered),
        idle_seconds: [readings.idle_seconds, by.idle_seconds].into_iter().flatten().min(),
    }
}

/// The more is allowed, the higher.
fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Run(_) => 2,
        Verdict::NothingNew(..) => 1,
        Verdict::Suspend(_) => 0,
    }
}

proptest! {
    /// However the readings jump about, work starts at most once in `CALM` readings, and so does taking jobs.
    #[test]
    fn nothing_starts_twice_within_so_many_readings(
        preferences in any_preferences(),
        readings in proptest::collection::vec(any_readings(), 1..200),
    ) {
        let mut judge = Judge::default();
        for allowed in [1, 2] {
            let mut stopped_at = None;
            let mut before = true;
            for (at, (readings, network_bytes)) in readings.iter().enumerate() {
                let verdict = judge.judge(&preferences, readings, &Moment { network_bytes: *network_bytes, ..NOON }, 4);
                let now = rank(&verdict) >= allowed;
                match (before, now) {
                    (true, false) => stopped_at = Some(at),
                    (false, true) => {
                        let stopped_at = stopped_at.expect("it starts only after it stopped");
                        prop_assert!(at - stopped_at >= CALM as usize, "stopped at {stopped_at}, started at {at}");
                    }
                    _ => {}
                }
                before = now;
            }
            judge = Judge::default();
        }
    }

    /// Whoever sees a worse computer at every reading never allows more, whatever came before.
    #[test]
    fn worse_readings_never_allow_more(
        preferences in any_preferences(),
        steps in proptest::collection::vec((any_readings(), any_readings()), 1..100),
    ) {
        let (mut judge, mut pessimist) = (Judge::default(), Judge::default());
        for (better, by) in &steps {
            let now = |network_bytes| Moment { network_bytes, ..NOON };
            let verdict = judge.judge(&preferences, &better.0, &now(better.1), 4);
            let darker = pessimist.judge(&preferences, &worse(&better.0, by), &now(better.1.max(by.1)), 4);
            prop_assert!(rank(&darker) <= rank(&verdict), "{darker:?} instead of {verdict:?}");
        }
    }

    /// A reading that speaks against work stops it at once; none is missed.
    #[test]
    fn an_objection_takes_effect_with_its_reading(
        preferences in any_preferences(),
        before in proptest::collection::vec(any_readings(), 0..20),
        last in any_readings(),
    ) {
        let mut judge = Judge::default();
        for (readings, network_bytes) in &before {
            judge.judge(&preferences, readings, &Moment { network_bytes: *network_bytes, ..NOON }, 4);
        }
        let now = Moment { network_bytes: last.1, ..NOON };
        let alone = first(&preferences, &last.0, &now);
        let verdict = judge.judge(&preferences, &last.0, &now, 4);
        prop_assert!(rank(&verdict) <= rank(&alone), "{verdict:?} instead of {alone:?}");
    }
}
