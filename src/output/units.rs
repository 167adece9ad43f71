//! Amounts as people write them.

use alloy::primitives::{U256, utils::format_units};

/// Token wei as tokens, without trailing zeros: `12.5`.
pub(crate) fn tokens(wei: U256) -> String {
    let text = format_units(wei, 18).unwrap_or_else(|_| wei.to_string());
    match text.split_once('.') {
        Some((whole, fraction)) => match fraction.trim_end_matches('0') {
            "" => whole.to_owned(),
            fraction => format!("{whole}.{fraction}"),
        },
        None => text,
    }
}

/// Tokens or ether from the command line: `12.5`, or wei as `12500wei`.
pub(crate) fn parse_tokens(text: &str) -> Result<U256, String> {
    let error = || format!("`{text}` is no amount: write tokens as 12.5, or wei as 12500wei");
    match text.strip_suffix("wei") {
        Some("") => Err(error()),
        Some(wei) => wei.parse().map_err(|_| error()),
        None => conun_agent::parse_tokens(text).ok_or_else(error),
    }
}

/// The first characters of a hash: enough for a person.
pub(crate) fn short(hash: impl std::fmt::Display) -> String {
    hash.to_string().chars().take(10).collect()
}

/// A UNIX time as a date: `2026-03-01 12:30:00 UTC`.
pub(crate) fn date(time: u64) -> String {
    let found = i64::try_from(time).ok().and_then(|time| jiff::Timestamp::from_second(time).ok());
    found.map_or_else(|| time.to_string(), |found| found.strftime("%F %T UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_and_read_alike() {
        for (text, wei) in
            [("0", 0u128), ("1", 10u128.pow(18)), ("12.5", 125 * 10u128.pow(17)), ("0.000000000000000001", 1)]
        {
            assert_eq!(parse_tokens(text), Ok(U256::from(wei)));
            assert_eq!(tokens(U256::from(wei)), text);
        }
        assert_eq!(parse_tokens("7wei"), Ok(U256::from(7)));
        for bad in
            ["", ".", "1.", ".5", "x", "-1", "+1", "1e3", "1.0000000000000000001", "7 gwei", "7gwei", "wei", "-7wei"]
        {
            assert!(parse_tokens(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn dates_are_read_as_people_write_them() {
        assert_eq!(date(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(date(u64::MAX), u64::MAX.to_string());
    }
}
