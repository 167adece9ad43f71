//! Plots as SVG within the page.

use std::fmt::Write as _;

use super::page::escape;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 190.0;
const COLOURS: [&str; 2] = ["#3b78c2", "#c25b3b"];

/// A bar with an interval.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What stands before it.
    pub name: String,
    /// Where it ends.
    pub value: f64,
    /// Half of the interval around that.
    pub half: f64,
    /// In another colour.
    pub marked: bool,
}

/// A point with an interval upwards and downwards.
pub(super) struct Point {
    pub(super) name: String,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

fn begin(height: f64, title: &str) -> String {
    format!(
        "<svg viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}' role=img aria-label='{}'>",
        escape(title)
    )
}

/// A number, as short as it is useful.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.001 => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    }
}

/// Horizontal bars, to the left for what is negative.
pub(super) fn bars(bars: &[Bar], title: &str) -> String {
    let row = 24.0;
    let mut svg = begin(row * bars.len() as f64 + 8.0, title);
    let least = bars.iter().map(|bar| bar.value - bar.half).fold(0.0, f64::min);
    let most = bars.iter().map(|bar| bar.value + bar.half).fold(0.0, f64::max);
    let span = (most - least).max(f64::MIN_POSITIVE);
    let place = |value: f64| LEFT + 10.0 + (value - least) / span * (WIDTH - LEFT - 90.0);
    for (at, bar) in bars.iter().enumerate() {
        let y = row * at as f64 + 4.0;
        let (from, to) = (place(bar.value.min(0.0)), place(bar.value.max(0.0)));
        let (low, high, middle) = (place(bar.value - bar.half), place(bar.value + bar.half), y + 8.0);
        let colour = COLOURS[usize::from(bar.marked)];
        let _ = write!(
            svg,
            "<text x='{LEFT}' y='{}' text-anchor=end>{}</text><rect x='{from:.1}' y='{y}' width='{:.1}' height='16' fill='{colour}'/>\
             <path d='M{low:.1} {middle}H{high:.1}' stroke='#888' stroke-width='2'/><text x='{:.1}' y='{}'>{}</text>",
            y + 12.0,
            escape(&bar.name),
            to - from,
            high.max(to) + 5.0,
            y + 12.0,
            short(bar.value),
        );
    }
    let zero = place(0.0);
    let _ = write!(svg, "<path d='M{zero:.1} 0V{}' stroke='#888'/></svg>", row * bars.len() as f64 + 4.0);
    svg
}

/// One column for each run.
pub(super) fn columns(title: &str, values: &[f64]) -> String {
    let (height, base) = (110.0, 90.0);
    let mut svg = begin(height, title);
    let most = values.iter().copied().fold(0.0, f64::max);
    let width = ((WIDTH - 60.0) / values.len().max(1) as f64).min(40.0);
    let _ = write!(svg, "<text x='0' y='12'>{}: most {}</text>", escape(title), short(most));
    for (at, value) in values.iter().enumerate() {
        let tall = if most > 0.0 { value / most * (base - 22.0) } else { 0.0 };
        let (x, y) = (10.0 + width * at as f64, base - tall);
        let _ = write!(
            svg,
            "<rect x='{x:.1}' y='{y:.1}' width='{:.1}' height='{tall:.1}' fill='{}'><title>{}</title></rect>",
            (width - 1.0).max(0.5),
            COLOURS[0],
            short(*value),
        );
    }
    let _ = write!(svg, "<path d='M10 {base}h{:.1}' stroke='#888'/></svg>", width * values.len() as f64);
    svg
}

/// The place at or below `wanted` where a line of text covers none of `taken`, of which it is one then.
fn free(taken: &mut Vec<f64>, wanted: f64) -> f64 {
    let line = 14.0;
    let mut place = wanted;
    while let Some(other) = taken.iter().find(|other| (place - **other).abs() < line) {
        place = other + line + 0.5;
    }
    taken.push(place);
    place
}

/// Points with intervals, both axes logarithmic, and the line on which both are equal.
pub(super) fn against(points: &[Point]) -> String {
    let (height, bottom, floor) = (305.0, 265.0, 1e-6);
    let mut svg = begin(height, "errors against doubt");
    let decades = |value: f64| (libm::log10(value.clamp(floor, 1.0)) + 6.0) / 6.0;
    let x = |value: f64| 60.0 + decades(value) * (WIDTH - 260.0);
    let y = |value: f64| bottom - decades(value) * (bottom - 20.0);
    for power in -6..=0 {
        let value = libm::pow(10.0, f64::from(power));
        let _ = write!(
            svg,
            "<text x='{:.1}' y='{}' text-anchor=middle>1e{power}</text><text x='50' y='{:.1}' text-anchor=end>1e{power}</text>",
            x(value),
            bottom + 16.0,
            y(value) + 4.0,
        );
    }
    let _ = write!(
        svg,
        "<path d='M{:.1} {:.1}L{:.1} {:.1}' stroke='#888' stroke-dasharray='4 4'/>",
        x(floor),
        y(floor),
        x(1.0),
        y(1.0)
    );
    let _ = write!(
        svg,
        "<text x='{:.1}' y='{}' text-anchor=middle>doubt that the job allows</text><text x='60' y='12'>share of wrong results</text>",
        x(1e-3),
        bottom + 32.0,
    );
    let mut labels = Vec::new();
    for point in points {
        let (at, colour) = (x(point.x), COLOURS[usize::from(point.low > point.x)]);
        let _ = write!(
            svg,
            "<path d='M{at:.1} {:.1}V{:.1}' stroke='{colour}' stroke-width='2'/><circle cx='{at:.1}' cy='{:.1}' r='4' fill='{colour}'/>\
             <text x='{:.1}' y='{:.1}'>{}</text>",
            y(point.low),
            y(point.high),
            y(point.y),
            at + 8.0,
            free(&mut labels, y(point.high) + 4.0),
            escape(&point.name),
        );
    }
    svg + "</svg>"
}

/// The share of sorted `values` that is at most as large as each.
pub(super) fn distribution(values: &[f64]) -> String {
    let (height, bottom) = (220.0, 185.0);
    let mut svg = begin(height, "distribution");
    let most = values.last().copied().unwrap_or(1.0).max(f64::MIN_POSITIVE);
    let x = |value: f64| 50.0 + value / most * (WIDTH - 100.0);
    let y = |share: f64| bottom - share * (bottom - 15.0);
    let mut path = format!("M{:.1} {:.1}", x(0.0), y(0.0));
    for (at, value) in values.iter().enumerate() {
        let (before, after) = (at as f64 / values.len() as f64, (at + 1) as f64 / values.len() as f64);
        let _ = write!(path, "L{:.1} {:.1}L{:.1} {:.1}", x(*value), y(before), x(*value), y(after));
    }
    let _ = write!(svg, "<path d='{path}' fill=none stroke='{}' stroke-width='2'/>", COLOURS[0]);
    let mut written = f64::MIN;
    for share in [0.0, 0.5, 0.9, 1.0] {
        let rank = ((share * values.len() as f64).ceil() as usize).clamp(1, values.len()) - 1;
        let value = values[rank];
        let _ = write!(
            svg,
            "<text x='44' y='{:.1}' text-anchor=end>{:.0} %</text><path d='M50 {:.1}H{}' stroke='#8884'/>",
            y(share) + 4.0,
            share * 100.0,
            y(share),
            WIDTH - 50.0,
        );
        // Those that are close to each other would be written over each other.
        if share > 0.0 && x(value) - written >= 45.0 {
            written = x(value);
            let _ = write!(
                svg,
                "<text x='{:.1}' y='{}' text-anchor=middle>{} s</text>",
                x(value),
                bottom + 18.0,
                short(value)
            );
        }
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_clear_of_each_other() {
        let mut taken = Vec::new();
        let places: Vec<_> = [20.1, 25.0, 21.0, 90.0].into_iter().map(|wanted| free(&mut taken, wanted)).collect();
        assert_eq!((places[0], places[3]), (20.1, 90.0));
        for (at, place) in places.iter().enumerate() {
            assert!(places[..at].iter().all(|other| (place - other).abs() >= 14.0), "{places:?}");
        }
    }
}
