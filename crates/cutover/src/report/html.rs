//! The page for people: one file without any link, every text of a store escaped.

use std::fmt::Write as _;

use super::{Cell, Checked, Manifest, OutRow, Proved, Word};

const STYLE: &str = "body{font:15px/1.45 sans-serif;margin:2em auto;max-width:75em;padding:0 1em;color:#222}\
h1,h2{line-height:1.2}table{border-collapse:collapse;margin:1em 0;font-size:14px}\
th,td{border:1px solid #bbb;padding:.25em .6em;text-align:left;vertical-align:top}th{background:#eee}\
td.n{text-align:right}code{font-family:monospace;word-break:break-all}.bad{color:#a00;font-weight:bold}\
@media print{body{margin:0;max-width:none}}";

/// The page of a manifest and of what its check found.
pub fn page(manifest: &Manifest, checked: &Checked) -> String {
    let mut page = Page(String::new());
    let title = format!("Cutover of {}", manifest.module);
    page.raw("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>");
    page.text(&title);
    page.raw("</title><style>");
    page.raw(STYLE);
    page.raw("</style></head><body>\n<h1>");
    page.text(&title);
    page.raw("</h1>\n");
    page.summary(manifest);
    page.check(checked);
    if let Some(sealed) = manifest.sealed().and_then(|entry| entry.facts.to().ok()) {
        page.counts(&sealed);
    }
    if let Some(rows) = &manifest.quarantine {
        page.quarantine(rows);
    }
    page.record(&manifest.record, manifest);
    if let Some(terms) = &manifest.terms {
        page.raw("<h2>Declarations</h2>\n<p><code>");
        page.text(terms.declarations.as_str());
        page.raw("</code></p>\n");
    }
    page.raw("</body></html>\n");
    page.0
}

struct Page(String);

impl Page {
    /// Markup of this file's own.
    fn raw(&mut self, markup: &str) {
        self.0.push_str(markup);
    }

    fn text(&mut self, text: &str) {
        escape(text, &mut self.0);
    }

    fn head(&mut self, names: &[&str]) {
        self.raw("<table><tr>");
        for name in names {
            self.raw("<th>");
            self.text(name);
        }
        self.raw("</tr>\n");
    }

    fn cell(&mut self, text: &str) {
        self.raw("<td>");
        self.text(text);
    }

    fn code(&mut self, text: &str) {
        self.raw("<td><code>");
        self.text(text);
        self.raw("</code>");
    }

    fn number(&mut self, number: Option<u64>) {
        self.raw("<td class=\"n\">");
        if let Some(number) = number {
            // Writing to a string cannot fail.
            let _ = write!(self.0, "{number}");
        }
    }

    fn fact(&mut self, name: &str, text: &str) {
        self.raw("<tr><th>");
        self.text(name);
        self.raw("</th>");
        self.code(text);
        self.raw("</tr>\n");
    }

    fn summary(&mut self, manifest: &Manifest) {
        self.raw("<table>\n");
        self.fact("run", &manifest.run.to_string());
        self.fact("made at", &manifest.made_at.to_string());
        if let Some(terms) = &manifest.terms {
            self.fact("file", &terms.file);
            self.fact("identity of the file", &terms.nonce.to_string());
            self.fact("tenant", &terms.tenant);
            self.fact("accepted", terms.accepted.as_str());
            self.fact("fingerprint", terms.fingerprint.as_str());
        }
        let status: serde_json::Value = manifest.status.to().unwrap_or_default();
        for name in ["phase", "owner"] {
            self.fact(name, status[name].as_str().unwrap_or_default());
        }
        let root = manifest.frozen().and_then(|frozen| frozen.source_root);
        self.fact("data root of the file", root.as_deref().unwrap_or("not recorded"));
        self.fact("digest of the manifest", &manifest.digest);
        self.raw("</table>\n");
    }

    fn check(&mut self, checked: &Checked) {
        self.raw("<h2>Check</h2>\n<ul>\n");
        for (class, mark, sentences) in [
            ("bad", "wrong: ", &checked.wrong),
            ("", "right: ", &checked.holds),
            ("", "not known: ", &checked.unknown),
        ] {
            for sentence in sentences {
                self.raw("<li class=\"");
                self.raw(class);
                self.raw("\">");
                self.raw(mark);
                self.text(sentence);
                self.raw("</li>\n");
            }
        }
        self.raw("</ul>\n");
    }

    fn counts(&mut self, sealed: &Proved) {
        self.raw("<h2>Tables</h2>\n");
        self.head(&[
            "table",
            "old store",
            "new store",
            "in quarantine",
            "repaired",
            "root of the old",
            "root of the new",
        ]);
        for table in &sealed.tables {
            self.raw("<tr>");
            self.cell(&table.target);
            self.number(Some(table.source_rows));
            self.number(table.target_rows);
            self.number(Some(table.quarantined));
            self.number(Some(table.repaired));
            self.code(table.source_root.as_deref().unwrap_or_default());
            self.code(table.target_root.as_deref().unwrap_or_default());
            self.raw("</tr>\n");
        }
        self.raw("</table>\n");
    }

    fn quarantine(&mut self, rows: &[OutRow]) {
        self.raw("<h2>Quarantine</h2>\n");
        if rows.is_empty() {
            self.raw("<p>No row.</p>\n");
            return;
        }
        self.head(&["row", "table", "key", "decision", "by", "reasons", "values (texts and blobs in hex)"]);
        for row in rows {
            self.raw("<tr>");
            self.cell(&row.id.to_string());
            self.cell(&row.table);
            self.code(&cells(&row.key));
            self.cell(&row.decision);
            self.cell(row.decided_by.as_deref().unwrap_or_default());
            let reasons: Vec<_> = row
                .reasons
                .iter()
                .map(|(column, hazard, problem)| format!("{column} {problem} (hazard {hazard})"))
                .collect();
            self.cell(&reasons.join("; "));
            self.code(&cells(&row.row));
            self.raw("</tr>\n");
        }
        self.raw("</table>\n");
    }

    fn record(&mut self, record: &[Word], manifest: &Manifest) {
        self.raw("<h2>Record</h2>\n<p>Of all runs of the module; each entry names the hash of the one before it.</p>\n");
        self.head(&["number", "at", "run", "what", "who", "facts", "hash"]);
        for entry in record {
            self.raw("<tr>");
            self.cell(&entry.number.to_string());
            self.cell(&entry.at.to_string());
            self.cell(if entry.run == manifest.run { "this" } else { "another" });
            self.cell(&entry.what);
            self.cell(&entry.who);
            self.code(entry.facts.as_str());
            self.code(&entry.hash);
            self.raw("</tr>\n");
        }
        self.raw("</table>\n");
    }
}

fn cells(cells: &[Cell]) -> String {
    let one = |cell: &Cell| match &*cell.class {
        "null" => format!("{} null", cell.column),
        class => format!("{} {class} {}", cell.column, cell.content),
    };
    cells.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Text as it is shown: no character of it is markup, none steers the page.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                out.extend(c.escape_default());
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup_or_turns_the_page_around() {
        let mut out = String::new();
        escape("<script>alert(\"1\" & '2')</script>\u{202e}\u{0}é", &mut out);
        assert_eq!(
            out,
            "&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)&lt;/script&gt;\\u{202e}\\u{0}é"
        );
    }
}
