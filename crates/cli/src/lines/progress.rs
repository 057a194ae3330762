//! How far a long import, removal or move has come: a bar on a terminal, now and then a line elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Between two lines where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

pub struct Progress {
    bar: Option<ProgressBar>,
    /// When the last line was printed; `None`: never.
    lines: Option<Instant>,
}

impl Progress {
    /// `size`: the bytes in all, if that is known.
    pub fn new(size: Option<u64>, quiet: bool) -> Self {
        if quiet {
            return Self { bar: None, lines: None };
        }
        if !stderr().is_terminal() {
            return Self { bar: None, lines: Some(Instant::now()) };
        }
        let (bar, template) = match size {
            Some(size) => (ProgressBar::new(size), "{bar:40} {percent:>3} %  {msg}  {eta} left"),
            None => (ProgressBar::new_spinner(), "{spinner} {msg}  {elapsed}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar: Some(bar), lines: None }
    }

    /// After each line: bytes read and the number of the line.
    pub fn read(&mut self, bytes: u64, line: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
            if line.is_multiple_of(100) {
                bar.set_message(format!("line {line}"));
            }
        }
        if let Some(last) = self.lines
            && last.elapsed() >= EVERY
        {
            eprintln!("line {line}");
            self.lines = Some(Instant::now());
        }
    }

    /// After each step of a removal: how many records went so far.
    pub fn removed(&mut self, count: u64) {
        self.told(&format!("{count} removed"));
    }

    /// How far it is, in words.
    pub fn told(&mut self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
            bar.tick();
        }
        if let Some(last) = self.lines
            && last.elapsed() >= EVERY
        {
            eprintln!("{text}");
            self.lines = Some(Instant::now());
        }
    }

    /// A line on standard error that the bar does not paint over.
    pub fn println(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
