//! A page of HTML that needs no network, part by part. Whatever text it is given is text, no markup.

use std::fmt::{Display, Write as _};

use super::plot;
pub use super::plot::Bar;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;color:#222;background:#fff;margin:0}main{max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2rem .6rem;text-align:right}\
.t{text-align:left;max-width:26rem;overflow-wrap:break-word}div{overflow-x:auto}\
pre{background:#f5f5f5;padding:.7rem;overflow-x:auto;font-size:12px}.good{color:#12702f}.bad{color:#a11}\
svg{display:block;max-width:100%;height:auto;margin:.6rem 0}svg text{font:12px system-ui,sans-serif;fill:#333}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}pre{background:#242424}svg text{fill:#ccc}td,th{border-color:#555}\
.good{color:#5cc27d}.bad{color:#f08a80}}";

/// Text in HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Whether it reads as a number, with whatever follows.
fn is_number(cell: &str) -> bool {
    cell.starts_with(|letter: char| letter.is_ascii_digit() || letter == '-') && !cell.starts_with("0x")
}

/// A page under way.
#[derive(Debug)]
pub struct Page(String);

impl Page {
    /// An empty one.
    pub fn new(title: &str) -> Self {
        let title = escape(title);
        Self(format!(
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>{title}</title>\
             <style>{STYLE}</style><main><h1>{title}</h1>"
        ))
    }

    fn put(&mut self, tag: &str, class: &str, text: impl Display) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "<{tag}{class}>{}</{tag}>", escape(&text.to_string()));
    }

    /// A heading.
    pub fn heading(&mut self, text: impl Display) {
        self.put("h2", "", text);
    }

    /// A paragraph.
    pub fn say(&mut self, text: impl Display) {
        self.put("p", "", text);
    }

    /// A paragraph about what is as it should be, or is not.
    pub fn judge(&mut self, good: bool, text: impl Display) {
        self.put("p", if good { " class=good" } else { " class=bad" }, text);
    }

    /// Lines as they are.
    pub fn lines(&mut self, text: impl Display) {
        self.put("pre", "", text);
    }

    /// A table with a head; columns of numbers go to the right, all others to the left.
    pub fn table<const N: usize>(&mut self, head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
        let rows: Vec<_> = rows.into_iter().collect();
        let class: [_; N] = std::array::from_fn(|column| {
            let numbers = !rows.is_empty() && rows.iter().all(|row| is_number(&row[column]));
            if numbers { "" } else { " class=t" }
        });
        self.0.push_str("<div><table><tr>");
        for (cell, class) in head.iter().zip(class) {
            let _ = write!(self.0, "<th{class}>{}", escape(cell));
        }
        for row in rows {
            self.0.push_str("<tr>");
            for (cell, class) in row.iter().zip(class) {
                let _ = write!(self.0, "<td{class}>{}", escape(cell));
            }
        }
        self.0.push_str("</table></div>");
    }

    /// Horizontal bars.
    pub fn bars(&mut self, bars: &[Bar], title: &str) {
        self.plot(&plot::bars(bars, title));
    }

    /// A plot from [`plot`].
    pub(super) fn plot(&mut self, svg: &str) {
        self.0.push_str(svg);
    }

    /// The page as it is written to a file.
    pub fn finish(self) -> String {
        self.0 + "</main></html>\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_is_told_is_no_markup() {
        assert_eq!(escape("<b title=\"x\">&"), "&lt;b title=&quot;x&quot;&gt;&amp;");
        let mut page = Page::new("<i>");
        page.heading("<i>");
        page.say("<i>");
        page.judge(false, "<i>");
        page.lines("<i>");
        page.table(["<i>", "n"], [["<i>".to_owned(), "1".to_owned()]]);
        page.bars(&[Bar { name: "<i>".to_owned(), value: 1.0, half: 0.0, marked: false }], "<i>");
        let page = page.finish();
        assert!(page.contains("<th>n") && page.contains("<td>1") && page.contains("<td class=t>&lt;i&gt;"), "{page}");
        assert!(!page.contains("<i>") && page.matches("&lt;i&gt;").count() == 10, "{page}");
    }
}
